//! What the network does.

use std::fs;
use std::io::Write;

use rustix::process::{Signal, geteuid};

use super::{FEW, FLOOD, MANY, is_told, survives, survives_with};
use crate::harness::{
    Authority, Certified, Endpoint, Play, Response, Server, Taskbeat, Tls, missing, peak_memory,
    runner,
};

#[test]
fn a_connection_that_is_refused() {
    let closed = Endpoint::closed();
    let daemon = Taskbeat::new("run")
        .to(&closed.url())
        .flag("-v")
        .script(runner::OBEDIENT)
        .start();
    let line = daemon.wait_for_log("WARN heartbeat failed");
    assert!(
        line.ends_with(": cannot connect: tcp connect error: Connection refused (os error 111)"),
        "{line}"
    );
    daemon.wait_for_lines("failed again", MANY);
    let endpoint = closed.open([], Play::Ok);
    let survived = survives_with(&endpoint, daemon, 1);
    survived.line();
}

#[test]
fn a_name_that_is_not_there_yet() {
    let mut unshare = vec!["unshare"];
    if !geteuid().is_root() {
        unshare.extend(["--user", "--map-root-user"]);
    }
    unshare.push("--mount");
    let hosts = "mount --bind hosts /etc/hosts && exec \"$@\"";
    unshare.extend(["sh", "-c", hosts, "sh"]);
    let endpoint = Endpoint::ok();
    let url = format!("http://pipeline.test:{}", endpoint.addr().port());
    let program = Taskbeat::new("run").to(&url).flag("-v");
    let path = program.home().join("hosts");
    fs::write(&path, "127.0.0.1 localhost\n").unwrap();
    if !Taskbeat::can(&unshare, program.home()) {
        return missing("a mount namespace: neither root nor user namespaces are there");
    }
    let daemon = program.via(&unshare).script(runner::OBEDIENT).start();
    // In which words depends on whether there is a name server to ask.
    daemon.wait_for_log("WARN heartbeat failed");
    let mut hosts = fs::File::options().append(true).open(&path).unwrap();
    hosts.write_all(b"127.0.0.1 pipeline.test\n").unwrap();
    survives_with(&endpoint, daemon, 1);
}

#[test]
fn a_service_that_does_not_answer() {
    let survived = survives(Play::Hang, FEW);
    let line = survived.line();
    assert!(
        line.ends_with(": no answer: HTTP read timeout occurred after 1s"),
        "{line}"
    );
}

#[test]
fn a_body_that_stalls() {
    let survived = survives(Play::StallWithin, FEW);
    let line = survived.line();
    assert!(line.contains(": no answer: "), "{line}");
}

#[test]
fn a_reset() {
    // It may be seen while the request is written or while the answer is awaited, in other words.
    let survived = survives(Play::ResetBefore, MANY);
    for line in survived.warnings {
        assert!(line.contains(": the connection broke"), "{line}");
    }
}

#[test]
fn a_reset_in_the_middle_of_the_answer() {
    is_told(Play::ResetWithin, "Connection reset by peer");
}

#[test]
fn an_answer_without_an_end() {
    for (flood, words) in [
        (Play::endless(), "length limit exceeded"),
        (Play::EndlessHead, "message head is too large"),
    ] {
        let endpoint = Endpoint::play([Play::fault()], flood);
        let daemon = Taskbeat::run(&endpoint).script(runner::OBEDIENT).start();
        daemon.wait_for_log("InternalServiceError");
        let before = peak_memory(daemon.pid());
        let line = daemon.wait_for_log(words);
        assert!(line.contains("WARN"), "{line}");
        endpoint.wait_for(MANY);
        let grown = peak_memory(daemon.pid()) - before;
        assert!(grown < FLOOD, "{grown} bytes more");
        survives_with(&endpoint, daemon, MANY);
    }
}

#[test]
fn an_idle_connection_that_the_peer_closes() {
    // Before the next heartbeat, or as it comes: then it is retried.
    for close in [Play::OkAndClose, Play::ResetBefore] {
        let both = [Play::Ok, close];
        let script: Vec<_> = both.iter().cycle().take(40).cloned().collect();
        let endpoint = Endpoint::play(script, Play::Ok);
        let daemon = Taskbeat::run(&endpoint)
            .set("--interval", "20ms")
            .script(runner::OBEDIENT)
            .start();
        daemon.wait_for_pid("ready");
        endpoint.wait_for(50);
        endpoint.now_play(Play::Terminate);
        let finished = daemon.finish();
        assert_eq!(finished.status, 0, "{finished:?}");
        let acknowledged = finished.stderr.matches("heartbeat acknowledged").count();
        assert!(acknowledged >= 20, "{acknowledged}: {}", finished.stderr);
    }
}

#[test]
fn a_connection_that_stays_bad_is_not_used_for_ever() {
    // It works, but whoever is at its other end may not be the service any more.
    let survived = survives(Play::deny(), FEW);
    let connections: Vec<_> = survived
        .requests
        .iter()
        .map(|request| request.connection)
        .collect();
    assert_eq!(connections[0], connections[1]);
    assert_ne!(connections[1], connections[2]);
}

const GOOD: Certified = Certified {
    name: "localhost",
    until: 2100,
};

/// A heartbeat to an endpoint with this certificate; whom to trust is in a file of the home directory.
fn encrypted(tls: &Tls) -> Taskbeat {
    let program = Taskbeat::new("run").to(&tls.url()).flag("-v");
    let trusted = program.home().join("trusted.pem");
    program
        .env("SSL_CERT_FILE", trusted)
        .script(runner::OBEDIENT)
}

#[test]
fn a_good_certificate_is_no_obstacle() {
    let endpoint = Endpoint::play([], Play::Terminate);
    let authority = Authority::new("ours");
    let tls = Tls::before(&endpoint, &authority, GOOD);
    let program = encrypted(&tls);
    authority.write(&program.home().join("trusted.pem"));
    let finished = program.finish();
    assert_eq!(finished.status, 0, "{finished:?}");
}

/// The certificate is not good for a daemon that trusts this authority.
fn is_not_trusted(on_it: Certified, trusted: Option<&Authority>, words: &str) {
    let endpoint = Endpoint::ok();
    let authority = Authority::new("ours");
    let tls = Tls::before(&endpoint, &authority, on_it);
    let program = encrypted(&tls);
    let file = program.home().join("trusted.pem");
    trusted.unwrap_or(&authority).write(&file);
    let daemon = program.start();
    let line = daemon.wait_for_log("WARN heartbeat failed");
    let said = ": cannot connect: TLS handshake failed: invalid peer certificate: ";
    assert!(line.contains(said) && line.contains(words), "{line}");
    daemon.wait_for_lines("failed again", MANY);
    assert!(endpoint.requests().is_empty());
    daemon.signal(Signal::TERM);
    let finished = daemon.finish();
    assert_eq!(finished.status, 42, "{finished:?}");
    assert_eq!(finished.stderr.matches("WARN").count(), 1, "{finished:?}");
}

#[test]
fn a_certificate_that_expired() {
    let expired = Certified {
        until: 2001,
        ..GOOD
    };
    is_not_trusted(expired, None, "expired");
}

#[test]
fn a_certificate_of_somebody_else() {
    let another = Certified {
        name: "another.example",
        ..GOOD
    };
    is_not_trusted(another, None, "not valid for name");
}

#[test]
fn an_authority_that_nobody_knows() {
    let known = Authority::new("another");
    is_not_trusted(GOOD, Some(&known), "UnknownIssuer");
}

#[test]
fn an_authority_that_nobody_knows_yet() {
    let endpoint = Endpoint::ok();
    let authority = Authority::new("ours");
    let tls = Tls::before(&endpoint, &authority, GOOD);
    let program = encrypted(&tls);
    let trusted = program.home().join("trusted.pem");
    Authority::new("another").write(&trusted);
    let daemon = program.start();
    daemon.wait_for_log("WARN heartbeat failed");
    daemon.wait_for_lines("failed again", FEW);
    authority.write(&trusted);
    survives_with(&endpoint, daemon, 1).line();
}

#[test]
fn no_authorities_at_first() {
    let endpoint = Endpoint::ok();
    let authority = Authority::new("ours");
    let tls = Tls::before(&endpoint, &authority, GOOD);
    let program = encrypted(&tls);
    // The file is not there.
    let trusted = program.home().join("trusted.pem");
    let daemon = program.start();
    daemon.wait_for_log("WARN heartbeat failed");
    daemon.wait_for_lines("failed again", FEW);
    authority.write(&trusted);
    survives_with(&endpoint, daemon, 1);
}

#[test]
fn a_proxy_that_asks_for_a_password() {
    let proxy = Server::start(|request| {
        assert!(request.line.starts_with("CONNECT "), "{}", request.line);
        Response::bare(407, "").header("Proxy-Authenticate", "Basic")
    });
    let daemon = Taskbeat::new("run")
        .to("https://datapipeline.invalid")
        .env("HTTPS_PROXY", proxy.url())
        .flag("-v")
        .script(runner::OBEDIENT)
        .start();
    let line = daemon.wait_for_log("WARN heartbeat failed");
    assert!(
        line.contains(": cannot connect: tunnel error: proxy authorization required"),
        "{line}"
    );
    daemon.wait_for_lines("failed again", MANY);
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.finish().status, 42);
    assert!(proxy.requests().len() > MANY);
}
