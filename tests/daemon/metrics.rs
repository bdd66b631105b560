//! `metrics-listen` and `taskbeat status --openmetrics`.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{
    Daemon, Endpoint, Step, TIMEOUT, Taskbeat, descriptors, eventually, let_pass, runner, text,
};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A daemon that serves metrics on a free port.
fn listening(endpoint: &Endpoint) -> Taskbeat {
    Taskbeat::run(endpoint).set("--metrics-listen", "127.0.0.1:0")
}

fn address(daemon: &Daemon) -> SocketAddr {
    let line = daemon.wait_for_log("metrics at http://");
    let rest = line.split_once("http://").unwrap().1;
    rest.split_once('/').unwrap().0.parse().unwrap()
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream
}

/// Sends `bytes`, and returns what the server sends before it closes the connection.
fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = connect(address);
    stream.write_all(bytes).unwrap();
    let mut reply = Vec::new();
    match stream.read_to_end(&mut reply) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
        _ => String::from_utf8(reply).unwrap(),
    }
}

/// The head and the body of the response.
fn request(address: SocketAddr, request: &str, accept: &str) -> (String, String) {
    let text = format!("{request} HTTP/1.1\r\nHost: t\r\n{accept}\r\n");
    let reply = exchange(address, text.as_bytes());
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

fn scrape(address: SocketAddr) -> String {
    let (head, body) = request(address, "GET /metrics", "");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains(&format!("content-type: {OPENMETRICS}")), "{head}");
    assert!(body.ends_with("\n# EOF\n"), "{body}");
    body
}

fn health(address: SocketAddr) -> String {
    let (head, body) = request(address, "GET /healthz", "");
    format!("{} {body}", &head["HTTP/1.1 ".len()..][..3])
}

/// The value of a sample, by its name and the labels after the task runner's id.
fn value(metrics: &str, id: &str, name: &str, labels: &str) -> Option<f64> {
    let start = format!("{name}{{taskrunner_id=\"{id}\"{labels}}} ");
    let line = metrics.lines().find(|line| line.starts_with(&start))?;
    Some(line[start.len()..].parse().unwrap())
}

#[test]
fn a_scrape_in_contact_has_every_metric_and_the_status_prints_the_same() {
    let endpoint = Endpoint::ok();
    let program = listening(&endpoint).set("--interval", "15m").script(runner::PLAIN);
    let id = program.id();
    let daemon = program.start();
    let address = address(&daemon);
    daemon.wait_for_pid("ready");
    daemon.wait_for_log(text::ACKNOWLEDGED);
    let metrics = scrape(address);
    let get = |name, labels| value(&metrics, &id, name, labels);
    let version = format!(",version=\"{}\"", env!("CARGO_PKG_VERSION"));
    assert_eq!(get("taskbeat_build_info", &version), Some(1.0), "{metrics}");
    for (name, labels, number) in [
        ("taskbeat_in_contact", "", 1.0),
        ("taskbeat_heartbeats_total", ",result=\"acknowledged\"", 1.0),
        ("taskbeat_heartbeats_total", ",result=\"rejected\"", 0.0),
        ("taskbeat_failures_in_a_row", "", 0.0),
        ("taskbeat_account_over_limit", "", 0.0),
        ("taskbeat_runner_healthy", "", 1.0),
        ("taskbeat_runner_up", "", 1.0),
        ("taskbeat_runner_starts_total", "", 1.0),
        ("taskbeat_stops_total", ",cause=\"terminate\"", 0.0),
        ("taskbeat_log_lines_dropped_total", "", 0.0),
    ] {
        assert_eq!(get(name, labels), Some(number), "{name}{labels}: {metrics}");
    }
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    let started = get("taskbeat_runner_start_timestamp_seconds", "").unwrap();
    let acknowledged = get("taskbeat_last_acknowledged_timestamp_seconds", "").unwrap();
    let next = get("taskbeat_next_heartbeat_timestamp_seconds", "").unwrap();
    assert!(now - 60.0 < started && started <= acknowledged && acknowledged <= now, "{metrics}");
    assert!((acknowledged + 899.0..acknowledged + 901.0).contains(&next), "{metrics}");
    assert!(get("taskbeat_heartbeat_duration_seconds", "").unwrap() > 0.0);
    assert_eq!(health(address), "200 in contact\n");
    let status = Taskbeat::new("status").set("--taskrunner-id", &id).flag("--openmetrics").finish();
    assert_eq!((status.status, status.text()), (0, metrics));
}

#[test]
fn each_client_gets_the_response_that_it_can_read() {
    let endpoint = Endpoint::ok();
    let daemon = listening(&endpoint).start();
    let address = address(&daemon);
    daemon.wait_for_log(text::ACKNOWLEDGED);
    for accept in ["", "Accept: */*\r\n", "Accept: text/plain;version=0.0.4;q=1\r\n"] {
        let (head, body) = request(address, "GET /metrics?x=1", accept);
        assert!(head.contains(OPENMETRICS), "{head}");
        // Without a runner there is nothing to say about it.
        assert!(!body.contains("taskbeat_runner_up"), "{body}");
    }
    let (head, body) = request(address, "HEAD /metrics", "");
    assert!(head.starts_with("HTTP/1.1 200 OK") && head.contains(OPENMETRICS), "{head}");
    assert_eq!(body, "");
    for (line, status, header) in [
        ("GET /", "404 Not Found", "content-type: text/plain"),
        ("GET /metrics/", "404 Not Found", "content-type: text/plain"),
        ("POST /metrics", "405 Method Not Allowed", "allow: GET, HEAD"),
        ("DELETE /healthz", "405 Method Not Allowed", "allow: GET, HEAD"),
    ] {
        let (head, _) = request(address, line, "");
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{line}: {head}");
        assert!(head.contains(header), "{line}: {head}");
    }
}

#[test]
fn metrics_are_served_while_heartbeats_fail_and_while_the_runner_is_stopped() {
    let endpoint = Endpoint::play([], Step::deny());
    let program = listening(&endpoint).script(runner::IGNORES_STOP);
    let id = program.id();
    let daemon = program.start();
    let address = address(&daemon);
    daemon.wait_for_pid("ready");
    daemon.wait_for_log(text::FAILED);
    let metrics = scrape(address);
    assert_eq!(value(&metrics, &id, "taskbeat_in_contact", ""), Some(0.0), "{metrics}");
    let rejected = value(&metrics, &id, "taskbeat_heartbeats_total", ",result=\"rejected\"");
    assert!(rejected >= Some(1.0), "{metrics}");
    assert!(value(&metrics, &id, "taskbeat_failures_in_a_row", "") >= Some(1.0), "{metrics}");
    assert_eq!(value(&metrics, &id, "taskbeat_last_acknowledged_timestamp_seconds", ""), None);
    assert_eq!(health(address), "503 not in contact\n");
    // Heartbeats hang now.
    endpoint.switch_to(Step::Hang);
    daemon.signal(Signal::TERM);
    daemon.wait_for_log(text::STOPPING);
    let metrics = scrape(address);
    let stops = value(&metrics, &id, "taskbeat_stops_total", ",cause=\"operator\"");
    assert_eq!(stops, Some(1.0), "{metrics}");
    daemon.stop_again();
    assert_eq!(daemon.finish().status, 137);
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn an_unhealthy_runner_shows_in_the_metrics_until_it_is_healthy() {
    let endpoint = Endpoint::ok();
    let program = listening(&endpoint).script(runner::PLAIN);
    let (id, healthy) = (program.id(), program.home().join("healthy"));
    let daemon = program.set("--health-check", format!("test -e {}", healthy.display())).start();
    let address = address(&daemon);
    daemon.wait_for_log("the runner is unhealthy");
    let metrics = scrape(address);
    assert_eq!(value(&metrics, &id, "taskbeat_runner_healthy", ""), Some(0.0), "{metrics}");
    let withheld = value(&metrics, &id, "taskbeat_heartbeats_total", ",result=\"unhealthy\"");
    assert!(withheld >= Some(1.0), "{metrics}");
    fs::write(healthy, "").unwrap();
    daemon.wait_for_log(text::ACKNOWLEDGED);
    let metrics = scrape(address);
    assert_eq!(value(&metrics, &id, "taskbeat_runner_healthy", ""), Some(1.0), "{metrics}");
}

#[test]
fn clients_that_send_nothing_or_garbage_keep_out_no_other() {
    let endpoint = Endpoint::ok();
    // No other heartbeat, which has descriptors, too.
    let daemon = listening(&endpoint).set("--interval", "15m").start();
    let address = address(&daemon);
    daemon.wait_for_log(text::ACKNOWLEDGED);
    scrape(address);
    let before = descriptors(daemon.pid());
    let mut silent: Vec<_> = (0..100).map(|_| connect(address)).collect();
    for (number, stream) in silent.iter_mut().enumerate() {
        if number % 2 == 0 {
            // It fails if a newer client has taken its place.
            let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ");
        }
    }
    scrape(address);
    // The server has closed all but eight before it replied.
    let opened = descriptors(daemon.pid()).saturating_sub(before);
    assert!(opened <= 8, "{opened}");
    for garbage in [&b"\0\xff\xfe\r\n\r\n"[..], b"GET\r\n\r\n", &b"x".repeat(100_000)] {
        let reply = exchange_as_far_as_possible(address, garbage);
        assert!(!reply.starts_with("HTTP/1.1 2"), "{reply}");
    }
    scrape(address);
    // After five seconds, the server closes the connections that are left.
    for mut stream in silent {
        let mut reply = Vec::new();
        let end = stream.read_to_end(&mut reply);
        assert!(end.is_ok() || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    }
    scrape(address);
}

/// The server may close the connection while the bytes are sent.
fn exchange_as_far_as_possible(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = connect(address);
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply);
    String::from_utf8_lossy(&reply).into_owned()
}

#[test]
fn a_flood_of_scrapes_delays_neither_heartbeats_nor_a_stop() {
    let endpoint = Endpoint::ok();
    let program = listening(&endpoint)
        .set("--interval", "50ms")
        .set("--grace", "300ms")
        .script(runner::IGNORES_STOP);
    let mut daemon = program.start();
    let address = address(&daemon);
    daemon.wait_for_pid("ready");
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    if let Ok(mut stream) = TcpStream::connect(address) {
                        let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: t\r\n\r\n");
                        let _ = stream.read(&mut [0; 64]);
                    }
                }
            });
        }
        endpoint.wait_for_more(10);
        // The ladder has a deadline after 300 ms.
        daemon.signal(Signal::TERM);
        let status = daemon.wait();
        over.store(true, Ordering::Relaxed);
        assert_eq!(status, 137);
    });
}

#[test]
fn a_port_that_is_taken_refuses_the_start_before_the_runner_starts() {
    let endpoint = Endpoint::ok();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let refused =
        Taskbeat::run(&endpoint).set("--metrics-listen", &address).script("echo started").finish();
    assert_eq!((refused.status, refused.text().as_str()), (75, ""), "{refused:?}");
    let message = format!(
        "taskbeat: cannot listen on metrics-listen {address}: \
         Address already in use (os error 98)\n"
    );
    assert_eq!(refused.stderr, message);
    assert!(endpoint.requests().is_empty());
}

#[test]
fn another_address_needs_a_restart() {
    let endpoint = Endpoint::ok();
    let program = Taskbeat::run(&endpoint);
    let file = program.home().join("taskbeat.toml");
    fs::write(&file, "metrics-listen = '127.0.0.1:0'").unwrap();
    let daemon = program.set("--config", &file).start();
    daemon.wait_for_log(text::ACKNOWLEDGED);
    fs::write(&file, "metrics-listen = '127.0.0.1:1'").unwrap();
    daemon.signal(Signal::HUP);
    let line = daemon.wait_for_log(text::RELOAD_REFUSED);
    assert!(line.contains("another metrics-listen needs a restart"), "{line}");
    scrape(address(&daemon));
}

/// How often the threads of the process went to sleep so far.
fn sleeps(pid: i32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks
        .map(|task| {
            let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
            let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches:"));
            line.unwrap().split_whitespace().last().unwrap().parse::<u64>().unwrap()
        })
        .sum()
}

#[test]
fn nothing_wakes_up_between_scrapes() {
    let endpoint = Endpoint::ok();
    let daemon = listening(&endpoint).set("--interval", "15m").start();
    let address = address(&daemon);
    daemon.wait_for_log(text::ACKNOWLEDGED);
    scrape(address);
    // Until then, the thread of the heartbeat ends, on a busy machine late.
    eventually("nothing wakes up for two seconds", || {
        let before = sleeps(daemon.pid());
        let_pass(Duration::from_secs(2));
        sleeps(daemon.pid()) == before
    });
    let before = sleeps(daemon.pid());
    scrape(address);
    eventually("taskbeat sleeps again", || sleeps(daemon.pid()) > before);
}
