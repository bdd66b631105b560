//! Certificates and trust stores.

use rustix::process::Signal;

use super::{FEW, MANY, survives_with};
use crate::harness::{Authority, Certified, Endpoint, Step, Taskbeat, Tls, replace_file, runner};

const GOOD: Certified = Certified { name: "localhost", until: 2100 };

/// A daemon whose endpoint has TLS. Its trust store is `trusted.pem` in its home directory.
fn encrypted(tls: &Tls) -> Taskbeat {
    let program = Taskbeat::new("run").to(&tls.url());
    let trusted = program.home().join("trusted.pem");
    program.env("SSL_CERT_FILE", trusted).script(runner::OBEDIENT)
}

#[test]
fn a_good_certificate() {
    let endpoint = Endpoint::play([], Step::Terminate);
    let authority = Authority::new("ours");
    let tls = Tls::before(endpoint.addr(), &authority, GOOD);
    let program = encrypted(&tls);
    authority.write(&program.home().join("trusted.pem"));
    let finished = program.set("--log", "trace").finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    let peer = tls.url().replace("https://", "");
    for step in [
        format!("TLS with {peer}: TLSv1_3, TLS13_"),
        format!("{peer} answers with x-amzn-requestid: "),
    ] {
        assert!(finished.stderr.contains(&step), "{step}: {finished:?}");
    }
}

/// A daemon that trusts `trusted`, else the certificate's authority, rejects the certificate.
fn is_rejected(certified: Certified, trusted: Option<&Authority>, words: &str) {
    let endpoint = Endpoint::ok();
    let authority = Authority::new("ours");
    let tls = Tls::before(endpoint.addr(), &authority, certified);
    let program = encrypted(&tls);
    let file = program.home().join("trusted.pem");
    trusted.unwrap_or(&authority).write(&file);
    let daemon = program.flag("-v").start();
    let line = daemon.wait_for_log("WARN heartbeat failed");
    let peer = tls.url().replace("https://", "");
    let failed = format!(": TLS handshake with {peer} failed: invalid peer certificate: ");
    assert!(line.contains(&failed) && line.contains(words), "{line}");
    daemon.wait_for_lines("failed again", MANY);
    assert!(endpoint.requests().is_empty());
    daemon.signal(Signal::TERM);
    let finished = daemon.finish();
    assert_eq!(finished.status, 42, "{finished:?}");
    assert_eq!(finished.stderr.matches("WARN heartbeat failed").count(), 1, "{finished:?}");
}

#[test]
fn a_certificate_that_expired() {
    let expired = Certified { until: 2001, ..GOOD };
    is_rejected(expired, None, "expired");
}

#[test]
fn a_certificate_for_another_name() {
    let another = Certified { name: "another.example", ..GOOD };
    is_rejected(another, None, "not valid for name");
}

#[test]
fn a_certificate_of_an_unknown_authority() {
    let known = Authority::new("another");
    is_rejected(GOOD, Some(&known), "UnknownIssuer");
}

#[test]
fn a_trust_store_that_changes_is_read_again() {
    for before in [Some("another"), None] {
        let endpoint = Endpoint::ok();
        let authority = Authority::new("ours");
        let tls = Tls::before(endpoint.addr(), &authority, GOOD);
        let program = encrypted(&tls);
        let trusted = program.home().join("trusted.pem");
        if let Some(another) = before {
            Authority::new(another).write(&trusted);
        }
        let daemon = program.flag("-v").start();
        let line = daemon.wait_for_log("WARN heartbeat failed");
        if before.is_none() {
            let words = ": no certificate in the host's trust store: ";
            assert!(line.contains(words), "{line}");
        }
        daemon.wait_for_lines("failed again", FEW);
        authority.write(&trusted);
        survives_with(&endpoint, daemon, 1).line();
    }
}

/// `once` for an endpoint whose authority is in a file of its own; the trust store has another.
/// `prepare` gets the path of the file. Returns the exit status and stderr.
fn once(prepare: impl FnOnce(Taskbeat, &str) -> Taskbeat) -> (i32, String) {
    let endpoint = Endpoint::ok();
    let authority = Authority::new("bundled");
    let tls = Tls::before(endpoint.addr(), &authority, GOOD);
    let program = Taskbeat::new("once").to(&tls.url());
    let (host, bundle) = (program.home().join("host.pem"), program.home().join("bundle.pem"));
    Authority::new("host").write(&host);
    authority.write(&bundle);
    let program = program.env("SSL_CERT_FILE", host);
    let finished = prepare(program, bundle.to_str().unwrap()).finish();
    (finished.status, finished.stderr)
}

/// Writes the config file with this line in its default profile.
fn config(program: Taskbeat, line: &str) -> Taskbeat {
    let file = program.home().join("config");
    replace_file(&file, &format!("[default]\n{line}\n"));
    program.env("AWS_CONFIG_FILE", file)
}

#[test]
fn aws_ca_bundle_replaces_the_trust_store() {
    assert_eq!(once(|program, bundle| program.env("AWS_CA_BUNDLE", bundle)).0, 0);
    assert_eq!(once(|program, _| program).0, 69);
}

#[test]
fn ca_bundle_of_the_profile_replaces_the_trust_store() {
    let set = |program, bundle: &str| config(program, &format!("ca_bundle = {bundle}"));
    assert_eq!(once(set).0, 0);
}

#[test]
fn aws_ca_bundle_comes_before_the_profiles_and_an_empty_one_is_unset() {
    let first = |program, bundle: &str| {
        let program = config(program, "ca_bundle = /nonexistent/profile.pem");
        program.env("AWS_CA_BUNDLE", bundle)
    };
    let empty = |program, bundle: &str| {
        config(program, &format!("ca_bundle = {bundle}")).env("AWS_CA_BUNDLE", "")
    };
    assert_eq!(once(first).0, 0);
    assert_eq!(once(empty).0, 0);
}

#[test]
fn a_bundle_without_certificates_is_named() {
    let missing = "/nonexistent/bundle.pem";
    let (status, message) = once(|program, _| program.env("AWS_CA_BUNDLE", missing));
    assert_eq!(status, 69, "{message}");
    let words = format!("no certificate in {missing}: ");
    assert!(message.contains(&words), "{message}");
    assert!(message.contains("No such file or directory"), "{message}");
}
