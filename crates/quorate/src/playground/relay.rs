//! Stands between the members: who dials a member comes here first, says who it is in the first words of the members'
//! protocol (`server`, `members/hello`), and is passed on. Over a link that is cut nothing passes and nobody is told, as
//! when a cable is pulled: the members find out by the silence. When it is mended both ends' old connections are closed.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::bind;
use crate::cluster::NodeEntry;

/// `"QRTM" | version 4 | cluster 8 | node 8 | incarnation 8 | to node 8`.
const HELLO_BYTES: usize = 40;
/// How long a member may take to say who it is.
const HELLO_PATIENCE: Duration = Duration::from_secs(5);

/// Two members, the smaller id first: a link is cut in both directions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Link(u64, u64);

impl Link {
    pub(super) fn between(a: u64, b: u64) -> Self {
        Self(a.min(b), a.max(b))
    }
}

/// Which links are cut.
#[derive(Clone, Debug, Default)]
pub(super) struct Cuts(Arc<watch::Sender<BTreeSet<Link>>>);

impl Cuts {
    /// Whether that changed anything.
    pub(super) fn cut(&self, link: Link) -> bool {
        self.0.send_if_modified(|cuts| cuts.insert(link))
    }

    /// Likewise.
    pub(super) fn heal(&self, link: Link) -> bool {
        self.0.send_if_modified(|cuts| cuts.remove(&link))
    }

    pub(super) fn all(&self) -> Vec<[u64; 2]> {
        self.0.borrow().iter().map(|link| [link.0, link.1]).collect()
    }

    fn are(&self, link: Link) -> bool {
        self.0.borrow().contains(&link)
    }

    /// Returns once the link is cut, or is whole.
    async fn until(&self, link: Link, cut: bool) {
        let _ = self.0.subscribe().wait_for(|cuts| cuts.contains(&link) == cut).await;
    }
}

/// The relays of all members; each is a task to be run.
pub(super) fn open(
    nodes: &[NodeEntry],
    cuts: &Cuts,
) -> io::Result<Vec<impl Future<Output = ()> + Send + use<>>> {
    let own = |node: &NodeEntry| Some((node.id, node.member, node.member_listen?));
    let relay = |(id, door, member): (u64, SocketAddr, SocketAddr)| {
        Ok(relay(bind(door)?, id, member, cuts.clone()))
    };
    nodes.iter().filter_map(own).map(relay).collect()
}

async fn relay(listener: TcpListener, to: u64, member: SocketAddr, cuts: Cuts) {
    loop {
        match listener.accept().await {
            Ok((dials, _)) => drop(tokio::spawn(carry(dials, to, member, cuts.clone()))),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Carries one connection until an end of it closes or the link was cut and is whole again. What goes wrong closes it,
/// and the member that dialled dials again.
async fn carry(mut dials: TcpStream, to: u64, member: SocketAddr, cuts: Cuts) -> io::Result<()> {
    let mut hello = [0; HELLO_BYTES];
    tokio::time::timeout(HELLO_PATIENCE, dials.read_exact(&mut hello)).await??;
    let link = Link::between(who_dials(&hello), to);
    if cuts.are(link) {
        // Not even the hello arrives.
        cuts.until(link, false).await;
        return Ok(());
    }
    let mut dialled = TcpStream::connect(member).await?;
    dials.set_nodelay(true)?;
    dialled.set_nodelay(true)?;
    dialled.write_all(&hello).await?;
    tokio::select! {
        over = copy_bidirectional(&mut dials, &mut dialled) => over.map(drop)?,
        // Both connections stay, and are silent.
        () = cuts.until(link, true) => cuts.until(link, false).await,
    }
    Ok(())
}

/// The member that says this hello.
fn who_dials(hello: &[u8; HELLO_BYTES]) -> u64 {
    let mut id = [0; 8];
    id.copy_from_slice(&hello[16..24]);
    u64::from_be_bytes(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(from: u64) -> [u8; HELLO_BYTES] {
        let mut hello = [7; HELLO_BYTES];
        hello[16..24].copy_from_slice(&from.to_be_bytes());
        hello
    }

    #[test]
    fn a_hello_tells_who_dials() {
        assert_eq!(who_dials(&hello(3)), 3);
    }

    /// What is said over a whole link arrives; over one that is cut nothing does, and the end is not closed until it is
    /// whole again. Another link does not care.
    #[tokio::test]
    async fn a_cut_link_is_silent_and_closes_when_it_is_whole_again() {
        let member = bind(([127, 0, 0, 1], 0).into()).unwrap();
        let door = bind(([127, 0, 0, 1], 0).into()).unwrap();
        let (at, address) = (member.local_addr().unwrap(), door.local_addr().unwrap());
        let cuts = Cuts::default();
        tokio::spawn(relay(door, 2, at, cuts.clone()));

        let (mut said, mut one) = ([0; HELLO_BYTES], [0; 1]);
        let mut first = TcpStream::connect(address).await.unwrap();
        first.write_all(&hello(1)).await.unwrap();
        let (mut heard, _) = member.accept().await.unwrap();
        heard.read_exact(&mut said).await.unwrap();
        assert_eq!(said, hello(1));
        first.write_all(b"a").await.unwrap();
        heard.read_exact(&mut one).await.unwrap();

        assert!(cuts.cut(Link::between(2, 1)) && !cuts.cut(Link::between(1, 2)));
        assert_eq!(cuts.all(), [[1, 2]]);
        tokio::task::yield_now().await;
        let mut second = TcpStream::connect(address).await.unwrap();
        second.write_all(&hello(1)).await.unwrap();
        let mut third = TcpStream::connect(address).await.unwrap();
        third.write_all(&hello(3)).await.unwrap();
        let (mut of_third, _) = member.accept().await.unwrap();
        of_third.read_exact(&mut said).await.unwrap();
        assert_eq!(said, hello(3), "what was said over the cut link arrived");

        assert!(cuts.heal(Link::between(1, 2)));
        assert_eq!(heard.read(&mut one).await.unwrap(), 0, "the old connection went on");
        assert_eq!(second.read(&mut one).await.unwrap_or(0), 0);
    }
}
