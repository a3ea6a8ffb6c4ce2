//! The registry's `zookeeper-client` against running servers: quorate-interop HOSTS. Each case works below a znode of its own; the
//! last one kills the leader, by the commands in LEADER_KILL and LEADER_START. Ends with `N passed, M failed`.

use std::future::Future;
use std::time::{Duration, Instant};

use zookeeper_client as zk;

type Checked = Result<(), Box<dyn std::error::Error + Send + Sync>>;

fn persistent() -> zk::CreateOptions<'static> {
    zk::CreateMode::Persistent.with_acls(zk::Acls::anyone_all())
}

async fn connect(hosts: &str) -> Result<zk::Client, zk::Error> {
    zk::Client::connector().with_session_timeout(Duration::from_secs(10)).connect(hosts).await
}

async fn room(client: &zk::Client) -> Result<String, zk::Error> {
    let options = zk::CreateMode::PersistentSequential.with_acls(zk::Acls::anyone_all());
    let (_, sequence) = client.create("/rust-", b"", &options).await?;
    Ok(format!("/rust-{sequence}"))
}

async fn znodes(hosts: String) -> Checked {
    let client = connect(&hosts).await?;
    let path = room(&client).await? + "/a";
    let (made, _) = client.create(&path, b"one", &persistent()).await?;
    assert_eq!(client.get_data(&path).await?, (b"one".to_vec(), made));
    let set = client.set_data(&path, b"two", Some(0)).await?;
    assert_eq!((set.version, set.czxid), (1, made.czxid));
    assert_eq!(client.set_data(&path, b"x", Some(7)).await, Err(zk::Error::BadVersion));
    assert_eq!(client.create(&path, b"", &persistent()).await.err(), Some(zk::Error::NodeExists));
    client.mkdir(&format!("{path}/b/c"), &persistent()).await?;
    assert_eq!(client.count_descendants_number(&path).await?, 2);
    assert_eq!(client.delete(&path, None).await, Err(zk::Error::NotEmpty));
    client.delete(&format!("{path}/b/c"), None).await?;
    assert_eq!(client.check_stat(&format!("{path}/b/c")).await?, None);
    Ok(())
}

async fn kinds(hosts: String) -> Checked {
    let (client, other) = (connect(&hosts).await?, connect(&hosts).await?);
    let path = room(&client).await?;
    let options = zk::CreateMode::EphemeralSequential.with_acls(zk::Acls::anyone_all());
    let (stat, sequence) = client.create(&format!("{path}/s-"), b"", &options).await?;
    assert_eq!((stat.ephemeral_owner, sequence.into_i64()), (client.session_id().0, 0));
    assert_eq!(client.list_ephemerals(&path).await?.len(), 1);
    other.sync(&path).await?;
    let (names, _, watcher) = other.get_and_watch_children(&path).await?;
    assert_eq!(names, ["s-0000000000"]);
    drop(client);
    assert_eq!(watcher.changed().await.event_type, zk::EventType::NodeChildrenChanged);
    let container = zk::CreateMode::Container.with_acls(zk::Acls::anyone_all());
    other.create(&format!("{path}/c"), b"", &container).await?;
    let lasting = persistent().with_ttl(Duration::from_secs(600));
    other.create(&format!("{path}/t"), b"", &lasting).await?;
    Ok(())
}

async fn transactions(hosts: String) -> Checked {
    let client = connect(&hosts).await?;
    let path = room(&client).await?;
    let a = format!("{path}/a");
    let mut writer = client.new_multi_writer();
    writer.add_create(&a, b"1", &persistent())?;
    writer.add_set_data(&a, b"2", Some(0))?;
    writer.add_check_version(&a, 1)?;
    assert_eq!(writer.commit().await?.len(), 3);
    let mut failing = client.new_multi_writer();
    failing.add_delete(&a, None)?;
    failing.add_check_version(&path, 7)?;
    assert!(failing.commit().await.is_err());
    let mut reader = client.new_multi_reader();
    reader.add_get_data(&a)?;
    reader.add_get_children(&path)?;
    assert_eq!(reader.commit().await?.len(), 2);
    Ok(())
}

async fn watches(hosts: String) -> Checked {
    let (client, other) = (connect(&hosts).await?, connect(&hosts).await?);
    let path = room(&client).await?;
    let mut all = client.watch(&path, zk::AddWatchMode::PersistentRecursive).await?;
    let (_, once) = client.check_and_watch_stat(&format!("{path}/a")).await?;
    other.create(&format!("{path}/a"), b"", &persistent()).await?;
    assert_eq!(once.changed().await.event_type, zk::EventType::NodeCreated);
    other.set_data(&format!("{path}/a"), b"x", None).await?;
    assert_eq!(all.changed().await.event_type, zk::EventType::NodeCreated);
    assert_eq!(all.changed().await.event_type, zk::EventType::NodeDataChanged);
    drop(all);
    Ok(())
}

async fn lists(hosts: String) -> Checked {
    let (client, other) = (connect(&hosts).await?, connect(&hosts).await?);
    let path = room(&client).await? + "/secret";
    client.auth("digest", b"bob:pw").await?;
    let options = zk::CreateMode::Persistent.with_acls(zk::Acls::creator_all());
    client.create(&path, b"x", &options).await?;
    assert_eq!(other.get_data(&path).await, Err(zk::Error::NoAuth));
    assert_eq!(client.get_data(&path).await?.0, b"x");
    assert!(client.list_auth_users().await?.len() >= 2);
    Ok(())
}

async fn locks(hosts: String) -> Checked {
    let (client, other) = (connect(&hosts).await?, connect(&hosts).await?);
    let path = room(&client).await?;
    let options = || zk::LockOptions::new(zk::Acls::anyone_all());
    let lock = client.lock(zk::LockPrefix::new_curator(&path, "lock-")?, b"", options()).await?;
    let waiting = tokio::spawn({
        let path = path.clone();
        async move {
            let prefix = zk::LockPrefix::new_curator(&path, "lock-")?;
            let lock = other.lock(prefix, b"", zk::LockOptions::new(zk::Acls::anyone_all())).await?;
            lock.create(&format!("{path}/under-lock"), b"", &persistent()).await.map(drop)
        }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished(), "two hold the lock");
    drop(lock);
    waiting.await??;
    Ok(())
}

async fn pipeline(hosts: String) -> Checked {
    let client = connect(&hosts).await?;
    let path = room(&client).await?;
    let sets: Vec<_> = (0..2_000).map(|version| client.set_data(&path, b"x", Some(version))).collect();
    for (version, set) in sets.into_iter().enumerate() {
        assert_eq!(set.await?.version as usize, version + 1);
    }
    Ok(())
}

fn hook(name: &str) {
    let command = std::env::var(name).expect("it was there at the start");
    let done = std::process::Command::new("sh").args(["-c", &command]).status();
    assert!(done.is_ok_and(|status| status.success()), "{command} failed");
}

async fn leader_killed(hosts: String) -> Checked {
    let client = connect(&hosts).await?;
    let path = room(&client).await?;
    let ephemeral = zk::CreateMode::Ephemeral.with_acls(zk::Acls::anyone_all());
    client.create(&format!("{path}/e"), b"", &ephemeral).await?;
    let (_, later) = client.check_and_watch_stat(&format!("{path}/later")).await?;
    let id = client.session_id();
    hook("LEADER_KILL");
    let mut version = 0;
    while version < 20 {
        match client.set_data(&path, b"x", Some(version)).await {
            Ok(stat) => version = stat.version,
            // After a lost connection: was it done?
            Err(zk::Error::BadVersion) => version = client.get_data(&path).await?.1.version,
            Err(zk::Error::ConnectionLoss) => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(error) => return Err(error.into()),
        }
    }
    hook("LEADER_START");
    client.create(&format!("{path}/later"), b"", &persistent()).await?;
    assert_eq!(later.changed().await.event_type, zk::EventType::NodeCreated);
    let stat = client.check_stat(&format!("{path}/e")).await?;
    assert_eq!(stat.map(|stat| stat.ephemeral_owner), Some(id.0));
    Ok(())
}

/// Runs one case, and tells whether it passed.
async fn run(name: &str, case: impl Future<Output = Checked> + Send + 'static) -> bool {
    let began = Instant::now();
    let done = tokio::time::timeout(Duration::from_secs(90), tokio::spawn(case)).await;
    let failure = match done {
        Ok(Ok(Ok(()))) => {
            println!("ok    {name:70} {:5.1} s", began.elapsed().as_secs_f64());
            return true;
        }
        Ok(Ok(Err(error))) => error.to_string(),
        Ok(Err(panicked)) => panicked.to_string(),
        Err(_) => "it hangs".to_owned(),
    };
    println!("FAIL  {name}: {failure}");
    false
}

#[tokio::main]
async fn main() {
    let hosts = std::env::args().nth(1).expect("quorate-interop HOSTS");
    let mut passed = vec![
        run("create, get, set, delete, mkdir, counts", znodes(hosts.clone())).await,
        run("sequential, ephemeral, container, time to live", kinds(hosts.clone())).await,
        run("transactions and multi reads", transactions(hosts.clone())).await,
        run("watches, one-shot and recursive", watches(hosts.clone())).await,
        run("lists and digest", lists(hosts.clone())).await,
        run("Curator's lock", locks(hosts.clone())).await,
        run("2,000 pipelined writes are answered in order", pipeline(hosts.clone())).await,
    ];
    if std::env::var_os("LEADER_KILL").is_some() {
        passed.push(run("a session outlives the leader", leader_killed(hosts)).await);
    }
    let good = passed.iter().filter(|passed| **passed).count();
    println!("{good} passed, {} failed", passed.len() - good);
    std::process::exit(i32::from(good < passed.len()));
}
