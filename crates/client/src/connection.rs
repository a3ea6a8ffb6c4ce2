//! A blocking connection with a session of its own.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use bytes::Bytes;
use quorate_zk::command::{AclEntry, CreateMode, Op, Stat};
use quorate_zk::tree::{anyone, perms};
use quorate_zk::wire::{
    BadPacket, ConnectRequest, ConnectResponse, JuteReader, JuteWriter, ReplyHeader, opcode, xid,
};

use crate::ClientError;

/// What a watch saw.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WatchEvent {
    /// 1 created, 2 deleted, 3 data changed, 4 children changed.
    pub kind: i32,
    /// The znode.
    pub path: String,
}

/// A connection to one server. The session ends with [`close`](Self::close), or by its timeout.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    next_xid: i32,
    session_timeout: Duration,
    events: Vec<WatchEvent>,
}

/// Replies larger than this are not taken.
const PACKET_BYTES_MAX: usize = 64 << 20;
/// There is no such znode.
const NO_NODE: i32 = -101;
/// The answer would be too long for one packet.
const TOO_LONG: i32 = -5;

impl Connection {
    /// Connects to the first server that takes a session.
    pub fn connect(servers: &[String], session_timeout: Duration) -> Result<Self, ClientError> {
        let mut last = io::Error::new(io::ErrorKind::InvalidInput, "no server was named");
        for server in servers {
            match Self::connect_to(server, session_timeout) {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(ClientError::Unreachable { servers: servers.join(","), last })
    }

    fn connect_to(server: &str, session_timeout: Duration) -> io::Result<Self> {
        let address = server.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(3))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(session_timeout))?;
        let request = ConnectRequest {
            timeout_ms: i32::try_from(session_timeout.as_millis()).unwrap_or(i32::MAX),
            password: vec![0; 16],
            ..ConnectRequest::default()
        };
        stream.write_all(&request.encode())?;
        let response =
            ConnectResponse::decode(&read_packet(&mut stream)?).map_err(io::Error::other)?;
        if response.session == 0 {
            return Err(io::Error::other("the server refused the session"));
        }
        let session_timeout = Duration::from_millis(response.timeout_ms.max(0) as u64);
        Ok(Self { stream, next_xid: 1, session_timeout, events: Vec::new() })
    }

    /// Data and Stat of a znode; `None` is the protocol's null.
    pub fn get(&mut self, path: &str, watch: bool) -> Result<(Option<Vec<u8>>, Stat), ClientError> {
        let reply = self.call(opcode::GET_DATA, |out| {
            out.str(path);
            out.bool(watch);
        })?;
        let mut input = JuteReader::new(&reply);
        let data = input.buffer().map_err(malformed)?.map(<[u8]>::to_vec);
        Ok((data, input.stat().map_err(malformed)?))
    }

    /// Stat of a znode, or `None` if there is none. The watch is set either way.
    pub fn exists(&mut self, path: &str, watch: bool) -> Result<Option<Stat>, ClientError> {
        let reply = self.call(opcode::EXISTS, |out| {
            out.str(path);
            out.bool(watch);
        });
        match reply {
            Ok(reply) => JuteReader::new(&reply).stat().map(Some).map_err(malformed),
            Err(ClientError::Refused(NO_NODE)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Names of a znode's children, sorted. A listing that is too long for one packet is asked for in pieces, where the server knows
    /// those, unless it is to be watched: it may then be of more than one moment.
    pub fn children(&mut self, path: &str, watch: bool) -> Result<Vec<String>, ClientError> {
        let listed = self.call(opcode::GET_CHILDREN, |out| {
            out.str(path);
            out.bool(watch);
        });
        let mut names = match listed {
            Err(ClientError::Refused(TOO_LONG)) if !watch => self.children_in_pieces(path)?,
            listed => names_of(&listed?)?,
        };
        names.sort_unstable();
        Ok(names)
    }

    fn children_in_pieces(&mut self, path: &str) -> Result<Vec<String>, ClientError> {
        let mut names: Vec<String> = Vec::new();
        loop {
            let last = names.last().cloned().unwrap_or_default();
            let piece = self.call(opcode::LIST_AFTER, |out| {
                out.str(path);
                out.str(&last);
            });
            match piece {
                // The one to go on from was deleted meanwhile.
                Err(ClientError::Refused(NO_NODE)) if names.pop().is_some() => {}
                piece => {
                    let piece = names_of(&piece?)?;
                    if piece.is_empty() {
                        return Ok(names);
                    }
                    names.extend(piece);
                }
            }
        }
    }

    /// Creates a znode that everybody may do everything with; its path comes back.
    pub fn create(
        &mut self,
        path: &str,
        data: &[u8],
        mode: CreateMode,
    ) -> Result<String, ClientError> {
        let acl = vec![AclEntry { perms: perms::ALL, identity: anyone() }];
        let op = Op::Create { path, data: Some(data), acl, mode };
        let code =
            if mode == CreateMode::Container { opcode::CREATE_CONTAINER } else { opcode::CREATE };
        let reply = self.call(code, |out| op.encode_request(out))?;
        Ok(JuteReader::new(&reply).str().map_err(malformed)?.to_string())
    }

    /// Sets a znode's data; -1 is any version.
    pub fn set(&mut self, path: &str, data: &[u8], version: i32) -> Result<Stat, ClientError> {
        let op = Op::SetData { path, data: Some(data), version };
        let reply = self.call(opcode::SET_DATA, |out| op.encode_request(out))?;
        JuteReader::new(&reply).stat().map_err(malformed)
    }

    /// Deletes a znode without children; -1 is any version.
    pub fn delete(&mut self, path: &str, version: i32) -> Result<(), ClientError> {
        let op = Op::Delete { path, version };
        self.call(opcode::DELETE, |out| op.encode_request(out)).map(drop)
    }

    /// Waits for the next event of a watch, and keeps the session alive meanwhile.
    pub fn next_event(&mut self) -> Result<WatchEvent, ClientError> {
        self.stream
            .set_read_timeout(Some(self.session_timeout / 3))
            .map_err(ClientError::Unknown)?;
        while self.events.is_empty() {
            match read_packet(&mut self.stream) {
                Ok(packet) => {
                    self.take(&packet)?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.ping()?,
                Err(error) => return Err(ClientError::Unknown(error)),
            }
        }
        Ok(self.events.remove(0))
    }

    /// Ends the session.
    pub fn close(mut self) -> Result<(), ClientError> {
        self.call(opcode::CLOSE_SESSION, |_| {}).map(drop)
    }

    fn ping(&mut self) -> Result<(), ClientError> {
        self.send(xid::PING, opcode::PING, |_| {}).map_err(ClientError::Unknown)
    }

    fn send(
        &mut self,
        xid: i32,
        opcode: i32,
        body: impl FnOnce(&mut JuteWriter),
    ) -> io::Result<()> {
        let mut out = JuteWriter::with_capacity(128);
        out.int(xid);
        out.int(opcode);
        body(&mut out);
        self.stream.write_all(&out.finish())
    }

    /// One request, and its answer's record.
    fn call(
        &mut self,
        opcode: i32,
        body: impl FnOnce(&mut JuteWriter),
    ) -> Result<Bytes, ClientError> {
        let xid = self.next_xid;
        self.next_xid = xid.checked_add(1).unwrap_or(1);
        self.send(xid, opcode, body).map_err(ClientError::Unknown)?;
        self.stream.set_read_timeout(Some(self.session_timeout)).map_err(ClientError::Unknown)?;
        loop {
            let packet = read_packet(&mut self.stream).map_err(ClientError::Unknown)?;
            if let Some((header, record)) = self.take(&packet)? {
                return match header {
                    ReplyHeader { xid: answered, .. } if answered != xid => {
                        Err(ClientError::Malformed("an answer to another request"))
                    }
                    ReplyHeader { error: 0, .. } => Ok(record),
                    ReplyHeader { error, .. } => Err(ClientError::Refused(error)),
                };
            }
        }
    }

    /// An answer, or nothing if it was an event or a ping's.
    fn take(&mut self, packet: &Bytes) -> Result<Option<(ReplyHeader, Bytes)>, ClientError> {
        let mut input = JuteReader::new(packet);
        let header = ReplyHeader::decode(&mut input).map_err(malformed)?;
        match header.xid {
            xid::NOTIFICATION => {
                let (kind, _state) =
                    (input.int().map_err(malformed)?, input.int().map_err(malformed)?);
                let path = input.str().map_err(malformed)?.to_string();
                self.events.push(WatchEvent { kind, path });
                Ok(None)
            }
            xid::PING => Ok(None),
            _ => Ok(Some((header, packet.slice(16..)))),
        }
    }
}

fn names_of(reply: &[u8]) -> Result<Vec<String>, ClientError> {
    let names = JuteReader::new(reply).strs().map_err(malformed)?;
    Ok(names.into_iter().map(str::to_string).collect())
}

fn malformed(BadPacket(what): BadPacket) -> ClientError {
    ClientError::Malformed(what)
}

fn read_packet(stream: &mut TcpStream) -> io::Result<Bytes> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(i32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > PACKET_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a packet out of range"));
    }
    let mut packet = vec![0; length];
    stream.read_exact(&mut packet)?;
    Ok(packet.into())
}
