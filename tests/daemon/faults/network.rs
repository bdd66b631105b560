//! Connections that fail, hang or break.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::thread;

use super::{FEW, FLOOD, MANY, logs, once_fails, survives, survives_with};
use crate::harness::{Endpoint, Step, Taskbeat, peak_memory, runner, skip_without, unshare};

#[test]
fn a_connection_that_is_refused() {
    let closed = Endpoint::closed();
    let daemon = Taskbeat::new("run").to(&closed.url()).flag("-v").script(runner::OBEDIENT).start();
    let line = daemon.wait_for_log("WARN heartbeat failed");
    let peer = closed.url().replace("http://", "");
    let words = format!(": cannot connect to {peer}: Connection refused (os error 111)");
    assert!(line.ends_with(&words), "{line}");
    daemon.wait_for_lines("failed again", MANY);
    let endpoint = closed.open([], Step::Ok);
    let survived = survives_with(&endpoint, daemon, 1);
    survived.line();
}

#[test]
fn a_name_that_does_not_exist_yet() {
    let hosts = "mount --bind hosts /etc/hosts && exec \"$@\"";
    let unshare = unshare(&["--mount", "sh", "-c", hosts, "sh"]);
    let endpoint = Endpoint::ok();
    let url = format!("http://pipeline.test:{}", endpoint.addr().port());
    let program = Taskbeat::new("run").to(&url).flag("-v");
    let path = program.home().join("hosts");
    fs::write(&path, "127.0.0.1 localhost\n").unwrap();
    if !Taskbeat::can_start_via(&unshare, program.home()) {
        return skip_without(
            "a mount namespace: this user may create neither mount nor user namespaces",
        );
    }
    let daemon = program.via(&unshare).script(runner::OBEDIENT).start();
    let line = daemon.wait_for_log("WARN heartbeat failed");
    // The reason depends on whether the host has a name server.
    assert!(line.contains(": cannot look up pipeline.test: "), "{line}");
    let mut hosts = fs::File::options().append(true).open(&path).unwrap();
    hosts.write_all(b"127.0.0.1 pipeline.test\n").unwrap();
    survives_with(&endpoint, daemon, 1);
}

#[test]
fn an_endpoint_that_speaks_no_tls() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let peer = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        let _ = client.read(&mut [0]);
    });
    let message = once_fails(Taskbeat::new("once").to(&format!("https://{peer}")), 69);
    let words = format!("TLS handshake with {peer} failed: received corrupt message");
    assert!(message.contains(&words), "{message}");
}

#[test]
fn fips_and_dual_stack_endpoints_that_do_not_exist() {
    // Without a network, no name server is asked.
    let unshare = unshare(&["--net"]);
    if !Taskbeat::can_start_via(&unshare, Path::new("/")) {
        return skip_without("a network namespace: this user may create no user namespaces");
    }
    for (variable, host) in [
        ("AWS_USE_FIPS_ENDPOINT", "datapipeline-fips.eu-west-1.amazonaws.com"),
        ("AWS_USE_DUALSTACK_ENDPOINT", "datapipeline.eu-west-1.api.aws"),
    ] {
        let program = || Taskbeat::new("once").env(variable, "true").via(&unshare);
        let message = once_fails(program(), 69);
        let lookup = format!("taskbeat: cannot look up {host}: ");
        assert!(message.starts_with(&lookup), "{message}");
        let message = once_fails(program().to("http://127.0.0.1:9"), 69);
        assert!(message.starts_with("taskbeat: no endpoint: "), "{message}");
    }
}

/// `fault` uses up the limit of each heartbeat, 1 s.
fn times_out(fault: Step) {
    let survived = survives(fault, FEW);
    let line = survived.line();
    let words = ": timed out after 1s waiting for the answer of 127.0.0.1:";
    assert!(line.contains(words), "{line}");
}

#[test]
fn a_service_that_does_not_answer() {
    times_out(Step::Hang);
}

#[test]
fn a_body_that_stalls() {
    times_out(Step::StallWithin);
}

#[test]
fn a_reset() {
    // It is noticed while the request is written or while the response is awaited.
    let survived = survives(Step::ResetBefore, MANY);
    for line in survived.warnings {
        assert!(line.contains(": connection to 127.0.0.1:"), "{line}");
        assert!(line.contains(" broke: "), "{line}");
    }
}

#[test]
fn a_reset_in_the_middle_of_the_answer() {
    logs(Step::ResetWithin, " broke: ");
}

#[test]
fn an_endless_answer() {
    for (flood, words) in [
        (Step::endless(), "length limit exceeded"),
        (Step::EndlessHead, "message head is too large"),
    ] {
        let endpoint = Endpoint::play([Step::fault()], flood);
        let daemon = Taskbeat::run(&endpoint).script(runner::OBEDIENT).start();
        daemon.wait_for_log("InternalServiceError");
        let before = peak_memory(daemon.pid());
        let line = daemon.wait_for_log(words);
        assert!(line.contains("WARN"), "{line}");
        endpoint.wait_for(MANY);
        let grown = peak_memory(daemon.pid()).saturating_sub(before);
        assert!(grown < FLOOD, "{grown} bytes more");
        survives_with(&endpoint, daemon, MANY);
    }
}

#[test]
fn each_heartbeat_has_a_connection_of_its_own() {
    // So none depends on what became of the connection of an earlier one.
    let both = [Step::Ok, Step::OkAndClose];
    let script: Vec<_> = both.iter().cycle().take(20).cloned().collect();
    let endpoint = Endpoint::play(script, Step::Terminate);
    let finished =
        Taskbeat::run(&endpoint).set("--interval", "20ms").script(runner::OBEDIENT).finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert!(!finished.stderr.contains("WARN"), "{finished:?}");
    let requests = endpoint.requests();
    assert_eq!(requests.len(), 21);
    let pairs = requests.windows(2);
    for pair in pairs {
        assert_ne!(pair[0].connection, pair[1].connection);
    }
}
