//! No secret is printed, at any log level and whatever fails.

use crate::harness::{Endpoint, Request, Response, Step, Taskbeat, runner};

const KEY: &str = "wJalrXUtnFEMI-the-secret-key";
const TOKEN: &str = "IQoJb3JpZ2lu-the-session-token";
const PASSWORD: &str = "the-proxy-password";

/// Logs everything, with every kind of secret in the environment.
fn talkative(taskbeat: Taskbeat) -> Taskbeat {
    taskbeat
        .env("AWS_SECRET_ACCESS_KEY", KEY)
        .env("AWS_SESSION_TOKEN", TOKEN)
        .env("HTTPS_PROXY", format!("http://user:{PASSWORD}@127.0.0.1:9"))
        .env("RUST_LOG", "trace")
}

fn shows_no_secret(taskbeat: Taskbeat) -> String {
    let finished = taskbeat.finish();
    for output in [&finished.text(), &finished.stderr] {
        for secret in [KEY, TOKEN, PASSWORD] {
            assert!(!output.contains(secret), "{secret} in {output}");
        }
    }
    finished.text() + &finished.stderr
}

/// The service's response to a wrong signature, which repeats the canonical request with the token.
fn echo(request: &Request) -> Response {
    let header = |(name, value): (&String, &String)| format!("{name}:{value}\n");
    let headers: Vec<String> = request.headers.iter().map(header).collect();
    let canonical = format!(
        "The request signature we calculated does not match the signature you provided. Check \
         your AWS Secret Access Key and signing method. Consult the service documentation for \
         details.\n\nThe Canonical String for this request should have been\n'POST\n/\n\n{}",
        headers.concat()
    );
    Response::error(403, "InvalidSignatureException", &canonical)
}

fn script() -> [Step; 8] {
    [
        Step::deny(),
        Step::handler(echo),
        Step::error(400, "ExpiredTokenException", "It expired"),
        Step::fault(),
        Step::throttle(),
        Step::ResetBefore,
        Step::ResetWithin,
        Step::body("<html>"),
    ]
}

#[test]
fn through_all_errors_run_shows_no_secret() {
    for verbose in [true, false] {
        let endpoint = Endpoint::play(script(), Step::Terminate);
        let daemon = talkative(Taskbeat::run(&endpoint)).script(runner::PLAIN);
        let shown = shows_no_secret(if verbose {
            daemon.flag("-vv")
        } else {
            daemon.env("TASKBEAT_LOG", "trace")
        });
        assert!(shown.contains("InvalidSignatureException"), "{shown}");
        assert_eq!(endpoint.requests().len(), 9);
    }
}

#[test]
fn a_proxy_that_refuses_is_named_without_its_password() {
    let closed = Endpoint::closed();
    let address = closed.url().replace("http://", "");
    let once = Taskbeat::new("once").to("http://datapipeline.invalid").flag("-vv");
    let once = talkative(once).env("HTTP_PROXY", format!("http://user:{PASSWORD}@{address}"));
    shows_no_secret(once);
}

#[test]
fn once_shows_no_secret() {
    for play in script() {
        let endpoint = Endpoint::play([], play);
        let once = Taskbeat::new("once").to(&endpoint.url()).flag("-vv");
        shows_no_secret(talkative(once));
    }
}

#[test]
fn check_shows_no_secret() {
    let check = talkative(Taskbeat::new("check").to("http://127.0.0.1:9").flag("--online"));
    let shown = shows_no_secret(check);
    assert!(shown.contains("access key          AKID…MPLE"), "{shown}");
}

#[test]
fn a_password_in_the_endpoint_is_refused_and_not_repeated() {
    let check = Taskbeat::new("check").to(&format!("http://user:{PASSWORD}@127.0.0.1:9"));
    let shown = shows_no_secret(check);
    assert!(shown.contains("endpoint-url"), "{shown}");
}

#[test]
fn advice_on_a_wrong_command_line_repeats_no_secret() {
    let url = format!("http://user:{PASSWORD}@127.0.0.1:9");
    let stray = Taskbeat::new("run").set("--endpoint-url", &url).flag("sleep");
    assert!(shows_no_secret(stray).contains("-- sleep"));
    let early = Taskbeat::new("--grace").flag("1s").flag("run").set("--endpoint-url", &url);
    assert!(shows_no_secret(early).contains("run --grace"));
}

#[test]
fn a_secret_that_is_refused_is_not_repeated() {
    for (name, secret) in [("AWS_SECRET_ACCESS_KEY", KEY), ("AWS_SESSION_TOKEN", TOKEN)] {
        for value in [format!("{secret}\n"), format!(" {secret}"), format!("{secret}\n{secret}")] {
            for subcommand in ["run", "once", "check", "status", "rehearse"] {
                let program = talkative(Taskbeat::new(subcommand)).env(name, &value);
                let shown = shows_no_secret(program);
                assert!(shown.starts_with(name), "{shown}");
            }
        }
    }
}
