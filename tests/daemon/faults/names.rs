//! Name servers and addresses that are dead, in a network namespace that a test makes. Root only.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::process::geteuid;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;
use tokio::net::TcpSocket;
use tokio::runtime::Builder;

use crate::harness::{Endpoint, Response, Server, Step, Taskbeat};

/// Keeps the namespaces of its process with these name servers until its standard input ends.
///
/// 127.0.0.2 has a route of its own, so that the resolver prefers neither it nor 127.0.0.1.
const HOLDER: &str = "ip link set lo up && ip addr add 127.0.0.2/32 dev lo && \
    mount --bind resolv.conf /etc/resolv.conf && echo ready && read -r _";

/// A network of its own, in which all of 127.0.0.0/8 is local, and a mount namespace with a
/// `resolv.conf` of its own.
pub(crate) struct Network {
    holder: Child,
    _home: TempDir,
}

impl Network {
    /// `None` for a user who may not make one.
    pub(crate) fn new(resolv_conf: &str) -> Option<Self> {
        if !geteuid().is_root() {
            eprintln!("skipped: only root can join a network namespace");
            return None;
        }
        let home = TempDir::new().unwrap();
        std::fs::write(home.path().join("resolv.conf"), resolv_conf).unwrap();
        let mut holder = Command::new("unshare")
            .args(["--net", "--mount", "sh", "-c", HOLDER])
            .current_dir(home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        let output = holder.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n");
        Some(Self { holder, _home: home })
    }

    /// Runs `act` in the network. The threads that it starts stay there, too.
    pub(crate) fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let network = File::open(format!("/proc/{}/ns/net", self.holder.id())).unwrap();
        let enter = || {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(network.as_fd(), kind).unwrap();
            act()
        };
        thread::scope(|scope| scope.spawn(enter).join().unwrap())
    }

    /// Makes `program` run in the network.
    pub(crate) fn run(&self, program: Taskbeat) -> Taskbeat {
        let holder = self.holder.id().to_string();
        program.via(&["nsenter", "--target", &holder, "--net", "--mount"])
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.holder.stdin = None;
        let _ = self.holder.wait();
    }
}

/// The types of the records that are asked for (RFC 1035 and 3596).
const A: u16 = 1;

/// A response to a query.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// The query is dropped.
    None,
    /// The server failed (RFC 1035, response code 2).
    Failure,
    Addresses(&'static [Ipv4Addr]),
}

/// Starts a name server at `address` that knows these addresses of every name in `test`. It drops
/// queries for IPv6 addresses if `drops_aaaa`.
fn name_server(address: Ipv4Addr, addresses: &'static [Ipv4Addr], drops_aaaa: bool) {
    serve_names(address, move |_, kind| {
        if kind != A && drops_aaaa { Answer::None } else { Answer::Addresses(addresses) }
    });
}

/// Starts a name server at `address`. `answer` gets the first label of a name and the type of the
/// record, and its addresses count for IPv4.
pub(crate) fn serve_names(
    address: Ipv4Addr,
    answer: impl Fn(&str, u16) -> Answer + Send + 'static,
) {
    let socket = UdpSocket::bind((address, 53)).unwrap();
    thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut query) {
            let query = &query[..length];
            // Behind the header of 12 bytes: labels up to the empty one, then type and class.
            let name = query[12..].iter().position(|byte| *byte == 0).unwrap();
            let question = &query[12..12 + name + 5];
            let kind = u16::from_be_bytes([question[name + 1], question[name + 2]]);
            let label = str::from_utf8(&query[13..13 + usize::from(query[12])]).unwrap();
            let (code, found) = match answer(label, kind) {
                Answer::None => continue,
                Answer::Addresses(addresses) if kind == A => (0, addresses),
                Answer::Addresses(_) => (0, &[][..]),
                Answer::Failure => (2, &[][..]),
            };
            let count = u8::try_from(found.len()).unwrap();
            // The id, then: a response, recursive, its code; one question, `count` answers.
            let mut response = query[..2].to_vec();
            response.extend([0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0]);
            response.extend(question);
            for address in found {
                // The name of the question, type A, class IN, a minute, four bytes.
                response.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
                response.extend(address.octets());
            }
            socket.send_to(&response, client).unwrap();
        }
    });
}

/// Listens at `address` and drops every SYN, because the queue of connections is full.
struct BlackHole {
    _listener: TcpListener,
    _queued: TcpStream,
}

impl BlackHole {
    fn at(address: SocketAddr) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(address).unwrap();
        let listener = socket.listen(0).unwrap().into_std().unwrap();
        Self { _queued: TcpStream::connect(address).unwrap(), _listener: listener }
    }
}

const DEAD: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const LIVE: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Heartbeats to a name, each with a limit of 1 s.
fn beat(endpoint: &Endpoint) -> Taskbeat {
    let url = format!("http://pipeline.test:{}", endpoint.addr().port());
    Taskbeat::new("run").to(&url)
}

/// The first heartbeat is acknowledged, within the limit of 30 s that is the default.
fn is_acknowledged(program: Taskbeat) {
    let finished = program.set("--interval", "15m").finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert!(!finished.stderr.contains("WARN heartbeat"), "{finished:?}");
}

#[test]
fn a_first_name_server_that_is_dead() {
    // The resolver waits for it for 5 s, its default.
    let Some(network) = Network::new("nameserver 127.0.0.2\nnameserver 127.0.0.1\n") else {
        return;
    };
    let (endpoint, _dead) = network.inside(|| {
        name_server(LIVE, &[LIVE], false);
        let dead = UdpSocket::bind((DEAD, 53)).unwrap();
        (Endpoint::play([], Step::Terminate), dead)
    });
    is_acknowledged(network.run(beat(&endpoint)));
}

#[test]
fn a_name_server_that_drops_queries_for_ipv6() {
    let Some(network) = Network::new("nameserver 127.0.0.1\noptions timeout:1\n") else {
        return;
    };
    let endpoint = network.inside(|| {
        name_server(LIVE, &[LIVE], true);
        Endpoint::play([], Step::Terminate)
    });
    is_acknowledged(network.run(beat(&endpoint)));
}

#[test]
fn no_name_server_that_answers() {
    let Some(network) = Network::new("nameserver 127.0.0.2\n") else {
        return;
    };
    let _dead = network.inside(|| UdpSocket::bind((DEAD, 53)).unwrap());
    let program = Taskbeat::new("run").to("http://pipeline.test");
    let daemon = network.run(program).start();
    let line = daemon.wait_for_log("WARN heartbeat failed");
    assert!(line.ends_with(": timed out after 1s looking up pipeline.test"), "{line}");
    // Each lookup takes 10 s. They do not add up, and the rest of taskbeat goes on.
    daemon.wait_for_log(": not tried: 4 earlier attempts still hang");
    daemon.signal(rustix::process::Signal::TERM);
    assert_eq!(daemon.finish().status, 0);
}

#[test]
fn a_first_address_that_drops_packets() {
    let Some(network) = Network::new("nameserver 127.0.0.1\n") else {
        return;
    };
    let (endpoint, _hole) = network.inside(|| {
        name_server(LIVE, &[DEAD, LIVE], false);
        let endpoint = Endpoint::play([], Step::Terminate);
        let hole = BlackHole::at(SocketAddr::from((DEAD, endpoint.addr().port())));
        (endpoint, hole)
    });
    is_acknowledged(network.run(beat(&endpoint)));
}

#[test]
fn addresses_that_all_drop_packets() {
    let Some(network) = Network::new("nameserver 127.0.0.1\n") else {
        return;
    };
    let _hole = network.inside(|| {
        name_server(LIVE, &[DEAD], false);
        BlackHole::at(SocketAddr::from((DEAD, 4711)))
    });
    let program = Taskbeat::new("once").to("http://pipeline.test:4711");
    let message = super::once_fails(network.run(program), 69);
    let words = "taskbeat: timed out after 1s connecting to pipeline.test:4711 (127.0.0.2)";
    assert_eq!(message, words);
}

#[test]
fn a_first_address_that_accepts_and_does_not_answer() {
    let Some(network) = Network::new("nameserver 127.0.0.1\n") else {
        return;
    };
    let (endpoint, _deaf) = network.inside(|| {
        name_server(LIVE, &[DEAD, LIVE], false);
        let endpoint = Endpoint::play([], Step::Terminate);
        let deaf = TcpListener::bind((DEAD, endpoint.addr().port())).unwrap();
        (endpoint, deaf)
    });
    // With the limit of the tests, 1 s.
    let program = network.run(beat(&endpoint));
    let finished = program.finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    // It costs one heartbeat. So the resolver keeps the order of the name server, which the other
    // tests rely on.
    assert_eq!(finished.stderr.matches("heartbeat failed").count(), 1, "{finished:?}");
}

#[test]
fn a_first_address_of_a_proxy_that_drops_packets() {
    let Some(network) = Network::new("nameserver 127.0.0.1\n") else {
        return;
    };
    let (proxy, port, _hole) = network.inside(|| {
        name_server(LIVE, &[DEAD, LIVE], false);
        let proxy = Server::start(|_| Response::acknowledge(true));
        let addr: SocketAddr = proxy.url().replace("http://", "").parse().unwrap();
        let hole = BlackHole::at(SocketAddr::from((DEAD, addr.port())));
        (proxy, addr.port(), hole)
    });
    let program = Taskbeat::new("run")
        .to("http://datapipeline.invalid")
        .env("HTTP_PROXY", format!("http://proxy.test:{port}"));
    is_acknowledged(network.run(program));
    assert_eq!(proxy.requests().len(), 1);
}
