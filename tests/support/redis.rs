//! A real Redis server on a free loopback port, in a temporary folder, that ends with the test.
//!
//! Other test binaries include it with `#[path = "../support/redis.rs"] mod redis_server;`.
#![allow(dead_code)] // Each of them uses a part of it.

use std::{
    collections::hash_map::RandomState,
    ffi::OsStr,
    fs::{self, File},
    hash::BuildHasher as _,
    io::Write as _,
    net::{Ipv4Addr, TcpListener},
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

/// How long a server may take to answer, or to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many databases a server has, so that each law of a suite gets an empty one.
const DATABASES: u32 = 4096;

/// Below the range from which the system takes ports for outgoing connections: otherwise somebody may have
/// the port of a server that is stopped, even a client that wants to reach that very server.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// Runs the server in the background and ends it with the signal that it reads, or kills it when nobody is left
/// to send one: also when the test was killed.
const GUARD: &str = r#"
    "$@" </dev/null &
    server=$!
    echo "$server" >"$0"
    read -r signal
    kill -"${signal:-KILL}" "$server"
    wait "$server"
"#;

pub struct Redis {
    port: u16,
    password: Option<String>,
    extra: Vec<String>,
    database: AtomicU32,
    guard: Mutex<Option<Child>>,
    folder: tempfile::TempDir,
}

impl Redis {
    /// A server that writes every step to its disk before it answers, and never evicts.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same, with further options as they stand on the command line. The later one counts.
    pub async fn start_with(extra: &[&str]) -> Self {
        let extra: Vec<String> = extra.iter().map(|option| (*option).to_owned()).collect();
        let password = extra.iter().position(|option| option == "--requirepass").map(|at| extra[at + 1].clone());
        let deadline = Instant::now() + PATIENCE;
        loop {
            let server = Self {
                port: free_port(),
                password: password.clone(),
                extra: extra.clone(),
                database: AtomicU32::new(0),
                guard: Mutex::new(None),
                folder: tempfile::tempdir().unwrap(),
            };
            server.spawn();
            match server.answers().await {
                Ok(()) => return server,
                // Somebody else was quicker with the port.
                Err(log) if log.contains("in use") && Instant::now() < deadline => {}
                Err(log) => panic!("the Redis server does not answer:\n{log}"),
            }
        }
    }

    /// Where database 0 is, with the password if there is one.
    pub fn url(&self) -> String {
        self.url_of(0)
    }

    /// Where an empty database is that nobody else was given.
    pub fn fresh(&self) -> String {
        let database = self.database.fetch_add(1, Ordering::Relaxed) + 1;
        assert!(database < DATABASES, "more databases than the server has");
        self.url_of(database)
    }

    fn url_of(&self, database: u32) -> String {
        let user = self.password.as_ref().map(|password| format!(":{password}@")).unwrap_or_default();
        format!("redis://{user}127.0.0.1:{}/{database}", self.port)
    }

    /// A bare connection to database 0.
    pub async fn connection(&self) -> redis::aio::MultiplexedConnection {
        connection(&self.url()).await.unwrap()
    }

    /// Drops all entries of all databases.
    pub async fn flush(&self) {
        redis::cmd("FLUSHALL").exec_async(&mut self.connection().await).await.unwrap();
    }

    /// Stops the server as its operator would. It writes what it has.
    pub async fn stop(&self) {
        self.end("TERM").await;
    }

    /// Kills the server: it can write nothing more.
    pub async fn kill(&self) {
        self.end("KILL").await;
    }

    /// Makes the server hang: it has its connections, takes new ones, and does nothing.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// Lets the server go on after [`pause`](Self::pause).
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let server = fs::read_to_string(self.folder.path().join("pid")).unwrap();
        assert!(
            Command::new("/bin/sh")
                .args(["-c", "kill \"$1\" \"$2\"", "kill", signal, server.trim()])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Starts the server again after [`stop`](Self::stop) or [`kill`](Self::kill), or stops it before if it runs:
    /// on the same port and with the same data.
    pub async fn restart(&self) {
        self.stop().await;
        self.spawn();
        if let Err(log) = self.answers().await {
            panic!("the Redis server does not answer any more:\n{log}");
        }
    }

    fn spawn(&self) {
        let log = File::create(self.folder.path().join("log")).unwrap();
        let port = self.port.to_string();
        let databases = DATABASES.to_string();
        let options: [&[&OsStr]; 8] = [
            &["--bind".as_ref(), "127.0.0.1".as_ref()],
            &["--port".as_ref(), port.as_ref()],
            &["--dir".as_ref(), self.folder.path().as_os_str()],
            &["--databases".as_ref(), databases.as_ref()],
            &["--save".as_ref(), "".as_ref()],
            &["--appendonly".as_ref(), "yes".as_ref()],
            &["--appendfsync".as_ref(), "always".as_ref()],
            &["--maxmemory-policy".as_ref(), "noeviction".as_ref()],
        ];
        let guard = Command::new("/bin/sh")
            .args(["-c", GUARD])
            .arg(self.folder.path().join("pid"))
            .arg(program())
            .args(options.concat())
            .args(&self.extra)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            // An interrupt at the terminal is for the test: the guard sees that the test has ended.
            .process_group(0)
            .spawn()
            .unwrap();
        *self.guard.lock().unwrap() = Some(guard);
    }

    /// Waits until the server has read its data and answers, or gives what it wrote to its log.
    async fn answers(&self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && !self.log().contains("in use") {
            let ping = async {
                let mut connection = connection(&self.url()).await?;
                redis::cmd("PING").exec_async(&mut connection).await
            };
            if matches!(tokio::time::timeout(PATIENCE, ping).await, Ok(Ok(()))) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err(self.log())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    async fn end(&self, signal: &str) {
        let Some(mut guard) = self.guard.lock().unwrap().take() else { return };
        let mut stdin = guard.stdin.take().unwrap();
        // It may have died by itself.
        let _ = writeln!(stdin, "{signal}");
        let deadline = Instant::now() + PATIENCE;
        while guard.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "the Redis server does not end:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(mut guard) = self.guard.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take() {
            // Its input ends: it kills the server. It is waited for, so that the folder can go.
            drop(guard.stdin.take());
            let _ = guard.wait();
        }
    }
}

async fn connection(url: &str) -> redis::RedisResult<redis::aio::MultiplexedConnection> {
    redis::Client::open(url)?.get_multiplexed_async_connection().await
}

fn free_port() -> u16 {
    let width = u64::from(PORTS.end - PORTS.start);
    (0_u64..10_000)
        .map(|attempt| PORTS.start + u16::try_from(RandomState::new().hash_one(attempt) % width).unwrap())
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .expect("no port is free")
}

/// The server that is installed.
fn program() -> &'static str {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let installed = |name: &str| std::env::split_paths(&folders).any(|folder| folder.join(name).is_file());
    ["redis-server", "valkey-server"].into_iter().find(|name| installed(name)).unwrap_or_else(|| {
        panic!(
            "there is no redis-server: run ./scripts/test, which installs redis-server, or install it or valkey-server"
        )
    })
}
