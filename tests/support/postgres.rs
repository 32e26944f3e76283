//! A real PostgreSQL server of the tests' own: on a free port of this machine, in a temporary folder, gone with
//! the test process however that ends.
#![allow(dead_code)]

use std::{
    env, fs,
    net::TcpListener,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

const DEADLINE: Duration = Duration::from_secs(60);
const HOW_TO_GET_IT: &str = "run ./scripts/test, which installs postgresql";

/// Counts the databases and the ports of this process.
static NEXT: AtomicU32 = AtomicU32::new(1);

/// A server, with a superuser `postgres` who needs no password.
pub struct Postgres {
    programs: PathBuf,
    folder: PathBuf,
    port: u16,
    /// Stops the server and removes the folder as soon as its standard input ends.
    guard: Child,
}

impl Postgres {
    /// Starts one. It answers already.
    pub async fn start() -> Self {
        Self::start_in(&place()).await
    }

    /// The same with a folder of its own in this one: for those who want to know how long the disk takes.
    pub async fn start_in(place: &Path) -> Self {
        let programs = programs();
        let folder = tempfile::Builder::new().prefix("tower-mpp-postgres-").tempdir_in(place).unwrap().keep();
        let guard = guard(&programs, &folder);
        let mut server = Self { programs, folder, port: 0, guard };
        if is_root() {
            run(Command::new("chown").arg("postgres:").arg(&server.folder), "chown").await;
        }
        let data = server.data();
        let mut initdb = server.program("initdb");
        initdb.arg("--pgdata").arg(data).args(["--auth=trust", "--username=postgres", "--encoding=UTF8"]);
        run(initdb.args(["--locale=C", "--no-sync"]), "initdb").await;
        for _ in 0..10 {
            server.port = free_port();
            if let Ok(()) = server.try_start().await {
                return server;
            }
        }
        panic!("the server does not start: {}", server.log());
    }

    /// The address of the database `postgres`.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Makes an empty database and answers its address.
    pub async fn fresh_database(&self) -> String {
        let name = format!("fresh_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut connection = PgConnection::connect(&self.url()).await.unwrap();
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        self.url_of(&name)
    }

    /// Ends its connections and stops it. What is in it stays.
    pub async fn stop(&self) {
        self.control(&["stop", "--mode=fast"]).await;
    }

    /// Stops it as a crash would, in the middle of what it does. What was committed stays.
    pub async fn kill(&self) {
        self.control(&["stop", "--mode=immediate"]).await;
    }

    /// Starts it again, with the same port and data, after it is stopped where it runs.
    pub async fn restart(&self) {
        if self.data().join("postmaster.pid").exists() {
            self.stop().await;
        }
        if let Err(error) = self.try_start().await {
            panic!("the server does not start again: {error}\n{}", self.log());
        }
    }

    async fn try_start(&self) -> Result<(), String> {
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=on -c max_connections=300 \
             -c max_wal_size=256MB",
            self.port
        );
        let mut start = self.program("pg_ctl");
        start.arg("--pgdata").arg(self.data()).arg("--log").arg(self.folder.join("log")).args(["--options", &options]);
        // A stale file of a killed server names a process that is gone, and is replaced.
        output(start.args(["--wait", "--timeout=50", "start"])).await
    }

    async fn control(&self, arguments: &[&str]) {
        let mut control = self.program("pg_ctl");
        control.arg("--pgdata").arg(self.data()).args(["--wait", "--timeout=50"]).args(arguments);
        run(&mut control, "pg_ctl").await;
    }

    fn url_of(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn program(&self, name: &str) -> Command {
        as_owner(&self.programs.join(name))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        self.guard.wait().ok();
    }
}

/// Where the folder is made. In memory where there is much of it: the suites wait for thousands of commits, and a
/// server that is killed, unlike a machine, finds there what it wrote.
fn place() -> PathBuf {
    const MEMORY: &str = "/dev/shm";
    const NEEDED_KIB: u64 = 2 << 20;
    let table = Command::new("df").args(["-Pk", MEMORY]).output().map(|df| df.stdout).unwrap_or_default();
    let table = String::from_utf8_lossy(&table);
    let free = table.lines().nth(1).and_then(|line| line.split_whitespace().nth(3)?.parse::<u64>().ok());
    if free.is_some_and(|free| free >= NEEDED_KIB) { MEMORY.into() } else { env::temp_dir() }
}

/// The folder of the newest server that is installed.
fn programs() -> PathBuf {
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().filter_map(|version| {
        let number: f64 = version.file_name().to_str()?.parse().ok()?;
        let programs = version.path().join("bin");
        programs.join("initdb").exists().then_some((number, programs))
    });
    let newest = installed.max_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, programs)| programs);
    let path = env::var_os("PATH").unwrap_or_default();
    newest
        .or_else(|| env::split_paths(&path).find(|folder| folder.join("initdb").exists()))
        .unwrap_or_else(|| panic!("there is no PostgreSQL server here: {HOW_TO_GET_IT}"))
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout.trim_ascii() == b"0"
}

/// The server refuses to run as root.
fn as_owner(program: &Path) -> Command {
    let mut command = if is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    // Not the folder of the caller, which the owner may not be allowed to see.
    command.current_dir("/");
    command
}

/// A shell that outlives this process by as long as it takes to stop the server and to remove the folder.
fn guard(programs: &Path, folder: &Path) -> Child {
    const SCRIPT: &str = r#"
        cat >/dev/null
        folder=$1
        shift
        "$@" --pgdata "$folder/data" --mode=immediate --wait stop >/dev/null 2>&1
        rm -rf "$folder"
    "#;
    let stop = as_owner(&programs.join("pg_ctl"));
    let mut shell = Command::new("sh");
    shell.args(["-c", SCRIPT, "sh"]).arg(folder).arg(stop.get_program()).args(stop.get_args());
    // In a group of its own, so that what interrupts the tests at a terminal does not interrupt it.
    shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/").process_group(0);
    shell.spawn().unwrap()
}

/// A port below those that the system hands out by itself: nobody takes it while the server is stopped.
fn free_port() -> u16 {
    loop {
        let number = std::process::id().wrapping_mul(31).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 20_000 + u16::try_from(number % 12_000).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

async fn run(command: &mut Command, name: &str) {
    if let Err(error) = output(command).await {
        panic!("{name} ({HOW_TO_GET_IT} where it is missing): {error}");
    }
}

async fn output(command: &mut Command) -> Result<(), String> {
    // The server inherits what it is started with, so nothing of it may be a pipe that somebody reads to its end.
    let log = tempfile::tempfile().unwrap();
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log.try_clone().unwrap()).process_group(0);
    let mut child = command.spawn().map_err(|error| format!("{:?}: {error}", command.get_program()))?;
    let started = std::time::Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return if status.success() { Ok(()) } else { Err(format!("{status}: {}", read_back(log))) };
        }
        if started.elapsed() > DEADLINE {
            child.kill().ok();
            return Err(format!("no end in {DEADLINE:?}: {}", read_back(log)));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn read_back(mut log: fs::File) -> String {
    use std::io::{Read as _, Seek as _};
    let mut text = String::new();
    log.rewind().ok();
    log.read_to_string(&mut text).ok();
    text
}
