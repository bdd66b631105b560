//! Credentials that are not there, not good any more, or slow.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use procfs::process::all_processes;

use super::{FEW, FLOOD, survives_with};
use crate::harness::{
    Daemon, Endpoint, Metadata, Play, Request, Response, Server, Taskbeat, children, descriptors,
    is_alive, peak_memory, runner,
};

/// A daemon with no credentials in its environment.
fn without_keys(endpoint: &Endpoint) -> Taskbeat {
    Taskbeat::run(endpoint)
        .without("AWS_ACCESS_KEY_ID")
        .without("AWS_SECRET_ACCESS_KEY")
        .flag("-v")
        .script(runner::OBEDIENT)
}

/// Takes what is signed with `key` alone.
fn takes(key: &'static str, code: &'static str) -> Endpoint {
    let judge = move |request: &Request| {
        if request.header("authorization").contains(key) {
            Response::acknowledge(false)
        } else {
            Response::error(400, code, "The security token is not valid")
        }
    };
    Endpoint::play([], Play::judge(judge))
}

/// Writes a file at once, as an agent that rotates keys does it.
fn write(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(&new, path).unwrap();
}

fn keys(id: &str) -> String {
    format!(
        "[default]\naws_access_key_id = {id}\naws_secret_access_key = a-secret\n\
         aws_session_token = token-of-{id}\n"
    )
}

/// After `failures` the daemon recovers by itself when `mend` has mended it, and was loud about it once, with `words`.
fn recovers(
    endpoint: &Endpoint,
    daemon: Daemon,
    failures: usize,
    words: &str,
    mend: impl FnOnce(),
) {
    let line = daemon.wait_for_log("WARN heartbeat failed");
    assert!(line.contains(words), "no {words:?} in {line}");
    // What the SDK knows of an answer is not for people.
    assert!(!line.contains('{'), "{line}");
    daemon.wait_for_lines("failed again", failures);
    mend();
    daemon.wait_for_log("heartbeats are acknowledged again");
    survives_with(endpoint, daemon, 1).line();
}

#[test]
fn none_at_first() {
    let endpoint = Endpoint::ok();
    let program = without_keys(&endpoint);
    let file = program.home().join("credentials");
    let daemon = program.env("AWS_SHARED_CREDENTIALS_FILE", &file).start();
    let words =
        ": no credentials found: none in environment, profile, web identity, ECS; EC2 metadata: ";
    recovers(&endpoint, daemon, FEW, words, || {
        write(&file, &keys("AKIDLATE"));
    });
}

#[test]
fn a_key_that_is_rotated_in_the_profile() {
    let endpoint = takes("AKIDNEW", "UnrecognizedClientException");
    let program = without_keys(&endpoint);
    let file = program.home().join("credentials");
    write(&file, &keys("AKIDOLD"));
    let daemon = program.env("AWS_SHARED_CREDENTIALS_FILE", &file).start();
    let words = ": UnrecognizedClientException: The security token is not valid (HTTP 400)";
    recovers(&endpoint, daemon, FEW, words, || {
        write(&file, &keys("AKIDNEW"));
    });
}

#[test]
fn a_token_that_expires() {
    let endpoint = takes("AKIDFRESH", "ExpiredTokenException");
    let program = without_keys(&endpoint);
    let file = program.home().join("credentials");
    write(&file, &keys("AKIDEXPIRED"));
    let daemon = program.env("AWS_SHARED_CREDENTIALS_FILE", &file).start();
    recovers(&endpoint, daemon, FEW, ": ExpiredTokenException: ", || {
        write(&file, &keys("AKIDFRESH"));
    });
    let requests = endpoint.requests();
    assert_eq!(
        requests[0].header("x-amz-security-token"),
        "token-of-AKIDEXPIRED"
    );
}

/// STS, which gives the key `AKIDOF` and the token's text for a web identity token.
fn sts() -> Server {
    Server::start(|request| {
        let field = |name: &str| {
            let mut fields = request
                .text
                .split('&')
                .filter_map(|field| field.split_once('='));
            fields
                .find(|(found, _)| *found == name)
                .map_or("", |(_, value)| value)
        };
        assert_eq!(field("Action"), "AssumeRoleWithWebIdentity");
        let token = field("WebIdentityToken");
        Response::bare(
            200,
            &format!(
                "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
                 <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>AKIDOF{token}</AccessKeyId>\
                 <SecretAccessKey>a-secret</SecretAccessKey><SessionToken>a-token</SessionToken>\
                 <Expiration>2100-01-01T00:00:00Z</Expiration></Credentials>\
                 </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
            ),
        )
    })
}

#[test]
fn a_web_identity_token_that_is_rotated() {
    let endpoint = takes("AKIDOFSECOND", "ExpiredTokenException");
    let sts = sts();
    let program = without_keys(&endpoint);
    let file = program.home().join("token");
    write(&file, "FIRST");
    let daemon = program
        .env("AWS_ENDPOINT_URL_STS", sts.url())
        .env("AWS_WEB_IDENTITY_TOKEN_FILE", &file)
        .env("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/runner")
        .start();
    recovers(&endpoint, daemon, FEW, ": ExpiredTokenException: ", || {
        write(&file, "SECOND");
    });
    assert!(
        endpoint.requests()[0]
            .header("authorization")
            .contains("AKIDOFFIRST")
    );
}

/// An instance that knows nothing but what its metadata say.
fn on_an_instance(endpoint: &Endpoint, metadata: &str) -> Taskbeat {
    without_keys(endpoint)
        .without("AWS_REGION")
        .without("AWS_EC2_METADATA_DISABLED")
        .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata)
}

const NEVER: &str = "2100-01-01T00:00:00Z";

#[test]
fn metadata_that_come_up_late() {
    let endpoint = Endpoint::ok();
    let down = Metadata::closed();
    let daemon = on_an_instance(&endpoint, &down.url()).start();
    let line = daemon.wait_for_log("WARN heartbeat failed");
    assert!(
        line.contains(": no region: set region, AWS_REGION or one in the profile"),
        "{line}"
    );
    daemon.wait_for_lines("failed again", FEW);
    assert!(endpoint.requests().is_empty());
    let metadata = down.open();
    metadata.put_role("AKIDROLE", NEVER);
    metadata.put_region("ap-southeast-2");
    survives_with(&endpoint, daemon, 1);
    let request = &endpoint.requests()[0];
    let scope = request.header("authorization");
    assert!(
        scope.contains("AKIDROLE/") && scope.contains("/ap-southeast-2/"),
        "{scope}"
    );
    assert!(
        metadata
            .requests()
            .iter()
            .any(|request| request.line.starts_with("PUT "))
    );
}

#[test]
fn a_profile_that_is_not_there_or_cannot_be_read() {
    let no_region =
        ": no region: set region, AWS_REGION or one in the profile; the EC2 metadata names none";
    let parsing = "; could not parse profile file: error parsing config on line 2: \
                   Expected an '=' sign defining a property";
    let good = "[default]\nregion = eu-west-1\n[profile nope]\nregion = eu-west-1\n";
    for (name, text, words) in [
        (None, "[default]\n", ""),
        (None, "[default]\nregion eu-west-1\n", parsing),
        (
            Some("nope"),
            "[default]\n",
            "; profile nope was not defined",
        ),
    ] {
        for by_flag in [true, false] {
            let endpoint = Endpoint::ok();
            let mut program = without_keys(&endpoint)
                .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
                .env("AWS_SECRET_ACCESS_KEY", "a-secret-key")
                .env("AWS_CONFIG_FILE", "config")
                .without("AWS_REGION");
            program = match name {
                Some(name) if by_flag => program.set("--profile", name),
                Some(name) => program.env("AWS_PROFILE", name),
                None => program,
            };
            let config = program.home().join("config");
            write(&config, text);
            let daemon = program.start();
            let line = daemon.wait_for_log("WARN heartbeat failed");
            assert!(line.ends_with(&format!("{no_region}{words}")), "{line}");
            write(&config, good);
            // It may be mended between the look for the region and the look for what is wrong.
            let survived = survives_with(&endpoint, daemon, 1);
            let told = survived
                .warnings
                .iter()
                .all(|line| line.contains(no_region));
            assert!(told, "{:?}", survived.warnings);
        }
    }
}

#[test]
fn metadata_that_hang() {
    let endpoint = Endpoint::ok();
    // The kernel takes the connections, and nobody takes them from it.
    let hanging = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}", hanging.local_addr().unwrap());
    let daemon = on_an_instance(&endpoint, &url).start();
    let runner = daemon.wait_for_pid("ready");
    daemon.wait_for_log("WARN heartbeat failed");
    daemon.wait_for_lines("failed again", FEW);
    assert!(is_alive(runner));
    let log = daemon.log();
    assert_eq!(log.matches("WARN").count(), 1, "{log}");
}

#[test]
fn an_instance_whose_role_is_not_there_yet() {
    // After a 500 the SDK asks again, which takes some seconds, and its time is that of a heartbeat.
    for (status, interval) in [(403, "300ms"), (404, "300ms"), (500, "10s")] {
        let endpoint = Endpoint::ok();
        let metadata = Metadata::start();
        metadata.put_region("eu-west-1");
        metadata.put_no_role(status);
        let daemon = on_an_instance(&endpoint, &metadata.url())
            .set("--interval", interval)
            .start();
        recovers(&endpoint, daemon, 1, ": no credentials", || {
            metadata.put_role("AKIDROLE", NEVER);
        });
    }
}

#[test]
fn expired_credentials_of_an_instance() {
    let endpoint = takes("AKIDFRESH", "ExpiredTokenException");
    let metadata = Metadata::start();
    metadata.put_region("eu-west-1");
    metadata.put_role("AKIDEXPIRED", "2020-01-01T00:00:00Z");
    let daemon = on_an_instance(&endpoint, &metadata.url()).start();
    // The SDK tries them: the metadata service may be late, and the service may still take them.
    recovers(&endpoint, daemon, 1, ": ExpiredTokenException: ", || {
        metadata.put_role("AKIDFRESH", NEVER);
    });
}

#[test]
fn a_container_whose_credentials_are_gone_for_a_while() {
    let endpoint = Endpoint::ok();
    let there = Arc::new(Mutex::new(false));
    let is_there = Arc::clone(&there);
    let ecs = Server::start(move |_| {
        if !*is_there.lock().unwrap() {
            return Response::bare(404, "{}");
        }
        Response::bare(
            200,
            r#"{"AccessKeyId":"AKIDTASK","SecretAccessKey":"a-secret","Token":"a-token","Expiration":"2100-01-01T00:00:00Z"}"#,
        )
    });
    let url = format!("{}/v2/credentials", ecs.url());
    let daemon = without_keys(&endpoint)
        .env("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)
        .start();
    recovers(&endpoint, daemon, 1, ": no credentials", || {
        *there.lock().unwrap() = true;
    });
    assert!(
        endpoint.requests()[0]
            .header("authorization")
            .contains("AKIDTASK")
    );
}

/// While others answer without an end, a heartbeat after the other fails, with `words`, and no memory is lost to it.
fn is_not_kept(daemon: &Daemon, words: &str, flood: impl FnOnce()) {
    daemon.wait_for_log("WARN heartbeat failed");
    let before = peak_memory(daemon.pid());
    flood();
    daemon.wait_for_log(words);
    let failed = daemon.log().matches("heartbeat failed").count();
    daemon.wait_for_lines("heartbeat failed", failed + FEW);
    let grown = peak_memory(daemon.pid()) - before;
    assert!(grown < FLOOD, "{grown} bytes more");
}

/// Somebody who has no credentials at first, and then more of them than anybody can take.
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
fn credentials_without_an_end() {
    let endpoint = Endpoint::ok();
    let flooding = Arc::default();
    let server = flooder(&flooding);
    let ecs = without_keys(&endpoint).env("AWS_CONTAINER_CREDENTIALS_FULL_URI", server.url());
    let sts = without_keys(&endpoint);
    let token = sts.home().join("token");
    write(&token, "TOKEN");
    let sts = sts
        .env("AWS_ENDPOINT_URL_STS", server.url())
        .env("AWS_WEB_IDENTITY_TOKEN_FILE", token)
        .env("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/runner");
    for program in [ecs, sts] {
        flooding.store(false, Ordering::Relaxed);
        let daemon = program.start();
        is_not_kept(&daemon, "length limit exceeded", || {
            flooding.store(true, Ordering::Relaxed);
        });
    }
}

#[test]
fn metadata_without_an_end() {
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

#[test]
fn a_credential_process_that_hangs() {
    let endpoint = Endpoint::ok();
    let program = without_keys(&endpoint);
    let config = program.home().join("config");
    // Found again by the time for which it sleeps, whoever its parent is by then.
    let mark = format!("{}.5", 100_000 + std::process::id());
    write(
        &config,
        &format!("[default]\ncredential_process = sh -c 'sleep {mark} & wait'\n"),
    );
    let daemon = program.env("AWS_CONFIG_FILE", &config).start();
    let leader = daemon.wait_for_pid("ready");
    let line = daemon.wait_for_log("WARN heartbeat failed");
    assert!(
        line.ends_with(": no credentials: no answer after 1s"),
        "{line}"
    );
    daemon.wait_for_lines("failed again", FEW);
    let open = descriptors(daemon.pid());
    daemon.wait_for_lines("failed again", 2 * FEW);
    let hanging = || {
        let processes = all_processes().unwrap().flatten();
        let lines = processes.filter_map(|process| process.cmdline().ok());
        lines.filter(|line| line.contains(&mark)).count()
    };
    // One at a time, and perhaps the last one that is yet to be seen to be dead.
    assert!(hanging() <= 2, "{} pile up", hanging());
    assert!(
        children(daemon.pid()).len() <= 4,
        "{:?}",
        children(daemon.pid())
    );
    assert!(descriptors(daemon.pid()) <= open + 4);
    let good = r#"{"Version":1,"AccessKeyId":"AKIDPROCESS","SecretAccessKey":"a-secret"}"#;
    write(
        &config,
        &format!("[default]\ncredential_process = echo '{good}'\n"),
    );
    daemon.wait_for_log("heartbeats are acknowledged again");
    assert!(children(daemon.pid()).contains(&leader) || is_alive(leader));
    survives_with(&endpoint, daemon, 1).line();
    assert_eq!(hanging(), 0, "they outlive us");
}

#[test]
fn a_runner_that_was_there_before_us_is_no_credential_process() {
    // The shell becomes us, and so its child ours, in our own process group.
    let endpoint = Endpoint::play([Play::fault(), Play::Ok, Play::deny()], Play::Ok);
    let shell = "sleep 120 & echo runner $!; exec \"$@\" --pid $!";
    let daemon = Taskbeat::run(&endpoint)
        .via(&["sh", "-c", shell, "sh"])
        .set("--interval", "50ms")
        .start();
    let runner = daemon.wait_for_pid("runner");
    endpoint.wait_for(10);
    assert!(children(daemon.pid()).contains(&runner));
    assert!(is_alive(runner), "it was killed");
    endpoint.now_play(Play::Terminate);
    let finished = daemon.finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert!(!is_alive(runner));
}
