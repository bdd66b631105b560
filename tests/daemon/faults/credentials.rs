//! Credentials that are missing, refused, expired or slow.

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::{FEW, FLOOD, key_of, keys, once_fails, survives_with, without_keys};
use crate::harness::{
    Daemon, Endpoint, Metadata, Request, Response, Server, Step, Taskbeat, is_alive, peak_memory,
    replace_file, runner,
};

/// A daemon without credentials in its environment.
fn run(endpoint: &Endpoint) -> Taskbeat {
    without_keys(Taskbeat::run(endpoint)).flag("-v").script(runner::OBEDIENT)
}

/// Accepts only what is signed with `key`, and rejects everything else with `code`.
fn accepts(key: &'static str, code: &'static str) -> Endpoint {
    let judge = move |request: &Request| {
        if key_of(request) == key {
            Response::acknowledge(false)
        } else {
            Response::error(400, code, "The security token is not valid")
        }
    };
    Endpoint::play([], Step::handler(judge))
}

/// After `failures`, of which one is logged at WARN with `words`, the daemon recovers when `mend`
/// was called.
fn recovers(
    endpoint: &Endpoint,
    daemon: Daemon,
    failures: usize,
    words: &str,
    mend: impl FnOnce(),
) {
    let line = daemon.wait_for_log("WARN heartbeat failed");
    assert!(line.contains(words), "no {words:?} in {line}");
    assert!(!line.contains('{'), "a dump: {line}");
    daemon.wait_for_lines("failed again", failures);
    mend();
    daemon.wait_for_log("heartbeats are acknowledged again");
    survives_with(endpoint, daemon, 1).line();
}

#[test]
fn none_at_first() {
    let endpoint = Endpoint::ok();
    let program = run(&endpoint);
    let file = program.home().join("credentials");
    let daemon = program.env("AWS_SHARED_CREDENTIALS_FILE", &file).start();
    let words = ": no credentials found: none in environment, profile default, web identity, \
                 container; EC2 metadata: ";
    recovers(&endpoint, daemon, FEW, words, || {
        replace_file(&file, &keys("default", "AKIDLATE"));
    });
}

#[test]
fn a_key_that_is_rotated_in_the_profile() {
    let endpoint = accepts("AKIDNEW", "UnrecognizedClientException");
    let program = run(&endpoint);
    let file = program.home().join("credentials");
    replace_file(&file, &keys("default", "AKIDOLD"));
    let daemon = program.env("AWS_SHARED_CREDENTIALS_FILE", &file).start();
    let words = ": UnrecognizedClientException: The security token is not valid (HTTP 400)";
    recovers(&endpoint, daemon, FEW, words, || {
        replace_file(&file, &keys("default", "AKIDNEW"));
    });
}

#[test]
fn a_token_that_expires() {
    let endpoint = accepts("AKIDFRESH", "ExpiredTokenException");
    let program = run(&endpoint);
    let file = program.home().join("credentials");
    replace_file(&file, &keys("default", "AKIDEXPIRED"));
    let daemon = program.env("AWS_SHARED_CREDENTIALS_FILE", &file).start();
    recovers(&endpoint, daemon, FEW, ": ExpiredTokenException: ", || {
        replace_file(&file, &keys("default", "AKIDFRESH"));
    });
    let token = endpoint.requests()[0].header("x-amz-security-token").to_owned();
    assert_eq!(token, "token-of-AKIDEXPIRED");
}

/// The response of STS with credentials of access key `id`.
pub(super) fn of_role(id: &str) -> String {
    format!(
        "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
         <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{id}</AccessKeyId>\
         <SecretAccessKey>a-secret</SecretAccessKey><SessionToken>a-token</SessionToken>\
         <Expiration>2100-01-01T00:00:00Z</Expiration></Credentials>\
         </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
    )
}

/// STS. The access key for a web identity token is `AKIDOF` and the token's text.
fn sts() -> Server {
    Server::start(|request| {
        let field = |name: &str| {
            let fields = request.text.split('&');
            let mut fields = fields.filter_map(|field| field.split_once('='));
            let found = fields.find(|(found, _)| *found == name);
            found.map_or("", |(_, value)| value)
        };
        assert_eq!(field("Action"), "AssumeRoleWithWebIdentity");
        let token = field("WebIdentityToken");
        Response::bare(200, &of_role(&format!("AKIDOF{token}")))
    })
}

/// A program whose credentials are a web identity token in the file `token` of its home directory.
fn with_token(program: Taskbeat, sts: &Server) -> Taskbeat {
    let file = program.home().join("token");
    program
        .env("AWS_ENDPOINT_URL_STS", sts.url())
        .env("AWS_WEB_IDENTITY_TOKEN_FILE", file)
        .env("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/runner")
}

#[test]
fn a_web_identity_token_that_is_rotated() {
    let endpoint = accepts("AKIDOFSECOND", "ExpiredTokenException");
    let sts = sts();
    let program = with_token(run(&endpoint), &sts);
    let file = program.home().join("token");
    replace_file(&file, "FIRST");
    let daemon = program.start();
    recovers(&endpoint, daemon, FEW, ": ExpiredTokenException: ", || {
        replace_file(&file, "SECOND");
    });
    assert_eq!(key_of(&endpoint.requests()[0]), "AKIDOFFIRST");
}

#[test]
fn a_web_identity_token_that_is_missing_is_named() {
    let sts = sts();
    let program = with_token(without_keys(Taskbeat::new("once")), &sts);
    let file = program.home().join("token");
    let message = once_fails(program, 69);
    let words = format!(
        "taskbeat: no credentials from web identity (token file {}): No such file or directory",
        file.display()
    );
    assert!(message.starts_with(&words), "{message}");
}

#[test]
fn sts_that_refuses() {
    let refusing = Server::start(|_| {
        let body = "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code>\
                    <Message>Not authorized to perform sts:AssumeRoleWithWebIdentity</Message>\
                    </Error><RequestId>r</RequestId></ErrorResponse>";
        Response::bare(403, body)
    });
    let program = with_token(without_keys(Taskbeat::new("once")), &refusing);
    replace_file(&program.home().join("token"), "TOKEN");
    let message = once_fails(program, 69);
    for words in [
        "no credentials from web identity (token file ",
        "AccessDenied",
        "Not authorized to perform sts:AssumeRoleWithWebIdentity",
    ] {
        assert!(message.contains(words), "no {words:?} in {message}");
    }
    assert!(!message.contains('{'), "a dump: {message}");
}

#[test]
fn sts_that_is_down() {
    let closed = Server::closed();
    let program = without_keys(Taskbeat::new("once"))
        .env("AWS_ENDPOINT_URL_STS", closed.url())
        .env("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/runner");
    let file = program.home().join("token");
    replace_file(&file, "TOKEN");
    let message = once_fails(program.env("AWS_WEB_IDENTITY_TOKEN_FILE", file), 69);
    let peer = closed.url().replace("http://", "");
    let words = format!("): cannot connect to {peer}: Connection refused (os error 111)");
    assert!(message.ends_with(&words), "{message}");
}

/// A daemon on an instance, which learns region and credentials from the metadata service.
fn on_an_instance(endpoint: &Endpoint, metadata: &str) -> Taskbeat {
    run(endpoint)
        .without("AWS_REGION")
        .without("AWS_EC2_METADATA_DISABLED")
        .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata)
}

const NEVER: &str = "2100-01-01T00:00:00Z";

#[test]
fn a_metadata_service_that_comes_up_late() {
    let endpoint = Endpoint::ok();
    let down = Metadata::closed();
    let daemon = on_an_instance(&endpoint, &down.url()).start();
    let line = daemon.wait_for_log("WARN heartbeat failed");
    assert!(line.contains(": no region: set region, AWS_REGION or one in the profile"), "{line}");
    daemon.wait_for_lines("failed again", FEW);
    assert!(endpoint.requests().is_empty());
    let metadata = down.open();
    metadata.put_role("AKIDROLE", NEVER);
    metadata.put_region("ap-southeast-2");
    survives_with(&endpoint, daemon, 1);
    let request = &endpoint.requests()[0];
    let scope = request.header("authorization");
    assert!(scope.contains("AKIDROLE/") && scope.contains("/ap-southeast-2/"), "{scope}");
    let requests = metadata.requests();
    assert!(requests.iter().any(|request| request.line.starts_with("PUT ")));
}

#[test]
fn a_metadata_service_that_hangs() {
    let endpoint = Endpoint::ok();
    // The kernel completes the connections, and no program accepts them.
    let hanging = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}", hanging.local_addr().unwrap());
    // The limit of a heartbeat is longer than that of the SDK for this service, 1 s.
    let daemon = on_an_instance(&endpoint, &url).set("--interval", "5s").start();
    let runner = daemon.wait_for_pid("ready");
    let line = daemon.wait_for_log("WARN heartbeat failed");
    assert!(line.contains(": no region: "), "{line}");
    daemon.wait_for_lines("failed again", FEW);
    assert!(is_alive(runner));
    let log = daemon.log();
    assert_eq!(log.matches("WARN heartbeat failed").count(), 1, "{log}");
}

#[test]
fn an_instance_without_a_role_yet() {
    // After a 500 the SDK asks again, which takes some seconds of the heartbeat's limit.
    for (status, interval) in [(403, "300ms"), (404, "300ms"), (500, "10s")] {
        let endpoint = Endpoint::ok();
        let metadata = Metadata::start();
        metadata.put_region("eu-west-1");
        metadata.put_no_role(status);
        let daemon = on_an_instance(&endpoint, &metadata.url()).set("--interval", interval).start();
        recovers(&endpoint, daemon, 1, ": no credentials", || {
            metadata.put_role("AKIDROLE", NEVER);
        });
    }
}

#[test]
fn expired_credentials_of_an_instance() {
    let endpoint = accepts("AKIDFRESH", "ExpiredTokenException");
    let metadata = Metadata::start();
    metadata.put_region("eu-west-1");
    metadata.put_role("AKIDEXPIRED", "2020-01-01T00:00:00Z");
    let daemon = on_an_instance(&endpoint, &metadata.url()).start();
    // The SDK uses them: the metadata service may be late, and the service may still accept them.
    recovers(&endpoint, daemon, 1, ": ExpiredTokenException: ", || {
        metadata.put_role("AKIDFRESH", NEVER);
    });
}

const OF_TASK: &str = r#"{"AccessKeyId":"AKIDTASK","SecretAccessKey":"a-secret",
    "Token":"a-token","Expiration":"2100-01-01T00:00:00Z"}"#;

#[test]
fn a_container_without_credentials_for_a_while() {
    let endpoint = Endpoint::ok();
    let there = Arc::new(Mutex::new(false));
    let is_there = Arc::clone(&there);
    let container = Server::start(move |_| {
        if *is_there.lock().unwrap() {
            Response::bare(200, OF_TASK)
        } else {
            Response::bare(404, "{}")
        }
    });
    let url = format!("{}/v2/credentials", container.url());
    let daemon = run(&endpoint).env("AWS_CONTAINER_CREDENTIALS_FULL_URI", url).start();
    let words = ": no credentials from container: ";
    recovers(&endpoint, daemon, 1, words, || {
        *there.lock().unwrap() = true;
    });
    assert_eq!(key_of(&endpoint.requests()[0]), "AKIDTASK");
}

#[test]
fn a_container_token_that_is_missing_is_named() {
    let program = without_keys(Taskbeat::new("once"))
        .env("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:9")
        .env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/nonexistent/token");
    let message = once_fails(program, 69);
    let words = "taskbeat: no credentials from container (token file /nonexistent/token): \
                 No such file or directory";
    assert!(message.starts_with(words), "{message}");
}

/// Once `flood` was called, each heartbeat fails with `words`, and the flood is not kept in memory.
fn is_not_kept(daemon: &Daemon, words: &str, flood: impl FnOnce()) {
    daemon.wait_for_log("WARN heartbeat failed");
    let before = peak_memory(daemon.pid());
    flood();
    daemon.wait_for_log(words);
    let failed = daemon.log().matches("heartbeat failed").count();
    daemon.wait_for_lines("heartbeat failed", failed + FEW);
    let grown = peak_memory(daemon.pid()).saturating_sub(before);
    assert!(grown < FLOOD, "{grown} bytes more");
}

/// A server that refuses, and answers endlessly once `flooding` is set.
fn flooder(flooding: &Arc<AtomicBool>) -> Server {
    let flooding = Arc::clone(flooding);
    Server::start(move |_| {
        if flooding.load(Ordering::Relaxed) {
            Response::bare(200, "{").without_end()
        } else {
            Response::bare(404, "{}")
        }
    })
}

#[test]
fn endless_credentials() {
    let endpoint = Endpoint::ok();
    let flooding = Arc::default();
    let server = flooder(&flooding);
    let container = run(&endpoint).env("AWS_CONTAINER_CREDENTIALS_FULL_URI", server.url());
    let sts = with_token(run(&endpoint), &server);
    replace_file(&sts.home().join("token"), "TOKEN");
    for program in [container, sts] {
        flooding.store(false, Ordering::Relaxed);
        let daemon = program.start();
        is_not_kept(&daemon, "length limit exceeded", || {
            flooding.store(true, Ordering::Relaxed);
        });
    }
}

#[test]
fn endless_metadata() {
    let endpoint = Endpoint::ok();
    let flood = || Response::bare(200, "a").without_end();
    for (path, words) in [
        ("iam/security-credentials/", "length limit exceeded"),
        ("placement/region", "no region"),
        ("instance-id", "length limit exceeded"),
    ] {
        let metadata = Metadata::start();
        let program = on_an_instance(&endpoint, &metadata.url());
        let id = format!("{} {{instance-id}}", program.id());
        if path != "instance-id" {
            metadata.put_text("/latest/meta-data/instance-id", "i-1");
        }
        if path != "placement/region" {
            metadata.put_region("eu-west-1");
        }
        let daemon = program.set("--taskrunner-id", id).start();
        is_not_kept(&daemon, words, || {
            metadata.put(&format!("/latest/meta-data/{path}"), flood());
        });
    }
}
