//! What holds for every input that other programs and users write: one function for each kind of
//! input, which panics if it does not hold. `tests/fuzz` calls them.

#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a panic is what is looked for"
)]

mod message;

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::net;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::str;
use std::sync::OnceLock;
use std::sync::mpsc::channel;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::select;

use self::message::{message, request};
use crate::aws::{Connection, DataPipeline};
use crate::config::{Config, Given, Options, Origin, Part, SETTINGS, is_http_url, load, parts};
use crate::core::{Outcome, Random, Schedule, Time};
use crate::daemon::{Response, Service};
use crate::endpoint::{Script, Step, serve};
use crate::runner::look;
use crate::status::{AskError, StatusReply, openmetrics};
use crate::sys::set_variable;

/// The service's limit for names, in characters.
const NAME: usize = 1024;

/// The longest text that a heartbeat's response becomes, in characters.
const LINE: usize = 1001;

/// A configuration file. Settings that are accepted are the same if they are written again, and if
/// they come from the environment.
pub fn configurations(input: &[u8]) {
    let (_file, path) = file(input);
    let config = match configuration(&[("config", &path)]) {
        Ok(config) => config,
        Err(errors) => {
            assert!(!errors.is_empty());
            return errors.iter().for_each(|error| is_line(error));
        }
    };
    let settings = &config.settings;
    is_text(&config.listing.to_string(), SETTINGS.len());
    settings.warnings().iter().for_each(|warning| is_line(&warning.to_string()));
    let identity = &settings.identity;
    is_name(&identity.taskrunner_id, 1);
    is_name(&identity.hostname, 1);
    is_name(identity.worker_group.as_deref().unwrap_or_default(), 0);
    let policy = &settings.policy;
    let interval = policy.interval;
    assert!((Duration::from_millis(10)..=Duration::from_mins(15)).contains(&interval));
    assert!((0.0..=0.5).contains(&policy.jitter));
    assert!(policy.lost_contact_after.is_none_or(|after| after > interval * 2));
    assert!(policy.health_check.is_none_or(|limit| limit <= interval / 2));
    assert_eq!(policy.on_terminate, settings.commands.on_terminate.is_some());

    let (mut text, mut environment) = (String::new(), Vec::new());
    for row in serde_json::to_value(&config.listing).unwrap().as_array().unwrap() {
        if row["origin"]["source"] == "file" {
            let (key, value) = (row["key"].as_str().unwrap(), row["value"].as_str().unwrap());
            // A string of TOML has one more character that is escaped.
            let quoted = row["value"].to_string().replace('\u{7f}', "\\u007f");
            text.extend([key, " = ", &quoted, "\n"]);
            let name = format!("TASKBEAT_{}", key.to_uppercase().replace('-', "_"));
            environment.push((OsString::from(name), OsString::from(value)));
        }
    }
    let (_file, path) = file(text.as_bytes());
    let again = configuration(&[("config", &path)]).map(|config| config.settings);
    assert_eq!(again.as_ref(), Ok(settings), "{text}");
    let again = load(&Options::default(), environment).map(|config| config.settings);
    assert_eq!(again.as_ref(), Ok(settings), "{text}");
}

/// A pid file: it names the process of the number in its first line, and no other.
pub fn pid_files(input: &[u8]) {
    let (_file, path) = file(input);
    let settings = configuration(&[("taskrunner-id", "tr"), ("pid-file", &path)]).unwrap().settings;
    let found = runtime().block_on(look(&settings.runner.target)).unwrap();
    let text = str::from_utf8(input).unwrap_or_default();
    let line = text.lines().next().unwrap_or_default().trim();
    let digits = line.bytes().all(|byte| byte.is_ascii_digit());
    let named = line.parse::<i32>().ok().filter(|pid| digits && *pid > 0);
    match found {
        Ok(process) => assert_eq!(Some(process.pid.as_raw_pid()), named),
        Err(problem) => {
            is_line(&problem);
            assert!(problem.starts_with(&path));
            if let (Some(pid), true) = (named, text.contains('\n')) {
                assert!(problem.contains(&format!("process {pid}")), "{problem}");
            }
        }
    }
}

/// The AWS config and credentials files, both with this content. No message repeats a secret.
pub fn profiles(input: &[u8]) {
    static FILE: OnceLock<File> = OnceLock::new();
    let shared = FILE.get_or_init(|| {
        let (file, path) = file(b"");
        for (name, _) in env::vars_os().filter(|(name, _)| name.as_bytes().starts_with(b"AWS_")) {
            set_variable(name, None);
        }
        for name in ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"] {
            set_variable(name, Some(&path));
        }
        set_variable("AWS_EC2_METADATA_DISABLED", Some("true"));
        // Reading the host's trust store takes longer than all the rest.
        set_variable("SSL_CERT_FILE", Some("/dev/null"));
        file
    });
    shared.set_len(0).unwrap();
    shared.write_all_at(input, 0).unwrap();
    let text = String::from_utf8_lossy(input).to_lowercase();
    let is_told = |shown: &str| {
        is_text(shown, 7);
        for (key, secret) in
            [("aws_secret_access_key", "a-secret"), ("aws_session_token", "a-token")]
        {
            let is_secret =
                text.contains(&format!("{key} = {secret}\n")) && text.matches(secret).count() == 1;
            assert!(!is_secret || !shown.contains(secret), "{shown}");
        }
    };
    for explicit in [None, Some(("profile", "default"))] {
        let flags = [Some(("taskrunner-id", "tr")), explicit];
        let settings = configuration(&flags.into_iter().flatten().collect::<Vec<_>>());
        let settings = settings.unwrap().settings;
        let connection = Connection::new(settings.aws, settings.policy.interval);
        match runtime().block_on(connection.client()) {
            Ok(client) => assert!(is_http_url(&client.endpoint), "{}", client.endpoint),
            Err(error) => is_told(&error),
        }
        // These would run a command or connect to a server.
        if ["process", "role", "sso", "web", "source"].iter().all(|word| !text.contains(word)) {
            match runtime().block_on(connection.check(&settings.identity)) {
                Ok((_, access, warnings)) => {
                    is_told(&access.to_string());
                    is_told(&serde_json::to_string(&access).unwrap());
                    for warning in warnings {
                        is_line(&warning.to_string());
                    }
                }
                Err(error) => is_told(&error),
            }
        }
    }
}

/// What a client sends to the built-in endpoint. Each response of 200 is for a heartbeat that was
/// played, and the service would accept each heartbeat that was.
pub fn requests(input: &[u8]) {
    let request = request(input);
    let (sender, played) = channel();
    let script = "ok*2,reject,terminate".parse().unwrap();
    let responses = runtime().block_on(async {
        let listener = listener();
        let address = listener.local_addr().unwrap();
        let client = async {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // The endpoint may have refused the first half of it.
            let _ = stream.write_all(request.as_bytes()).await;
            let _ = stream.shutdown().await;
            let mut responses = Vec::new();
            let _ = stream.read_to_end(&mut responses).await;
            String::from_utf8(responses).unwrap()
        };
        let observe = move |play| sender.send(play).unwrap();
        select! {
            responses = client => responses,
            never = serve(listener, script, observe) => match never {},
        }
    });
    let mut steps = BTreeMap::<_, Vec<_>>::new();
    for play in played.try_iter() {
        let heartbeat = play.heartbeat;
        is_sent(&heartbeat.taskrunner_id, 1);
        is_sent(heartbeat.worker_group.as_deref().unwrap_or_default(), 0);
        is_sent(heartbeat.hostname.as_deref().unwrap_or("-"), 1);
        steps.entry(heartbeat.taskrunner_id).or_default().push(play.step);
    }
    let accepted = |step: &&Step| **step != Step::Reject;
    let accepted = steps.values().flatten().filter(accepted).count();
    assert!(responses.matches("HTTP/1.1 200 OK").count() <= accepted, "{responses}");
    for steps in steps.values() {
        let expected = [Step::Ok, Step::Ok, Step::Reject];
        let expected = expected.into_iter().chain(std::iter::repeat(Step::Terminate));
        assert!(steps.iter().copied().eq(expected.take(steps.len())), "{steps:?}");
    }
}

/// What a server sends in response to a heartbeat. Only the service's own words acknowledge, and
/// the next heartbeat follows within an interval.
pub fn responses(input: &[u8]) {
    let sent = message(input);
    let response = runtime().block_on(async {
        let listener = listener();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let config = configuration(&[("taskrunner-id", "tr"), ("endpoint-url", &url)]).unwrap();
        let settings = config.settings;
        let connection = Connection::rehearsal(settings.aws, settings.policy.interval);
        let mut service = DataPipeline::new(connection, settings.identity);
        service.send(false);
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"}") && stream.read_buf(&mut request).await.unwrap() > 0 {}
            let _ = stream.write_all(&sent).await;
            let _ = stream.shutdown().await;
            let _ = stream.read(&mut [0]).await;
            std::future::pending().await
        };
        select! {
            response = service.response() => response,
            never = server => never,
        }
    });
    let Response { outcome, message, code, request_id } = response;
    for text in [Some(&message), code.as_ref(), request_id.as_ref()].into_iter().flatten() {
        is_text(text, 1);
        assert!(text.chars().count() <= LINE, "{text}");
    }
    let (mut schedule, now) = (Schedule::default(), Time::ZERO);
    let policy = configuration(&[("taskrunner-id", "tr")]).unwrap().settings.policy;
    schedule.begin(now, &policy);
    schedule.start(now);
    let request_id = request_id.unwrap_or_default();
    match outcome {
        Outcome::Acknowledged { terminate } => {
            let sent = String::from_utf8_lossy(&sent).to_lowercase();
            let is_whole = !sent.contains("chunked");
            let told = |word| !is_whole || sent.contains(word);
            assert!(sent.contains(" 200") && sent.contains("x-amz") && !request_id.is_empty());
            assert!(told(if terminate { "true" } else { "false" }));
            assert_eq!((&*message, code), ("", None));
            schedule.acknowledged(now, &policy, Random::new(0.5));
        }
        Outcome::Failed(failure) => {
            is_line(&message);
            assert!(failure.retry_after.is_none() || !request_id.is_empty());
            schedule.failed(now, &policy, failure, Random::new(0.5));
        }
    }
    let due = schedule.due().unwrap();
    assert!(due > now && due <= now + policy.interval, "{due:?}");
}

/// The script of a rehearsal. If it is accepted, so are its canonical form and the one without its
/// spaces.
pub fn scripts(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    let script: Script = match text.parse() {
        Ok(script) => script,
        Err(error) => return assert!(error.starts_with('`'), "{error}"),
    };
    let canonical = script.to_string();
    for same in [canonical.clone(), text.split_whitespace().collect()] {
        assert_eq!(same.parse().as_ref(), Ok(&script), "{same}");
    }
    let length = script.len();
    assert!((1..=10_000).contains(&length));
    let has_end = script.step(length - 1) == Step::Terminate;
    assert_eq!(script.step(length) == Step::Terminate, has_end);
    for (step, word, _) in Step::ALL {
        let longer = format!("{canonical},{word}").parse::<Script>();
        assert_eq!(longer.is_ok(), !has_end && length < 10_000, "{word}");
        assert!(longer.is_err() || longer.unwrap().step(length) == step);
    }
}

/// What a process sends that claims to be a daemon. It is printed without control characters, and a
/// reply that is understood is understood again.
pub fn statuses(input: &[u8]) {
    let reply = match StatusReply::parse(input) {
        Ok(reply) => reply,
        Err(error) => return is_line(&AskError::Unreadable(error).to_string()),
    };
    let json = serde_json::to_string(&reply).unwrap();
    is_line(&json);
    let again = StatusReply::parse(json.as_bytes()).unwrap();
    let value = |reply| serde_json::to_value(reply).unwrap();
    is_alike(&value(&reply), &value(&again));
    if let StatusReply::Full(snapshot) = &reply {
        is_line(&snapshot.line());
        is_text(&snapshot.to_string(), 9);
        let metrics = openmetrics(snapshot);
        is_text(&metrics, 60);
        let (metrics, _) = metrics.split_once("# EOF\n").unwrap();
        for line in metrics.lines().filter(|line| !line.starts_with("# ")) {
            let (sample, number) = line.rsplit_once("} ").unwrap();
            assert!(sample.starts_with("taskbeat_") && sample.contains("{taskrunner_id=\""));
            assert!(number.parse::<f64>().unwrap().is_finite(), "{line}");
        }
    }
}

/// The settings that these flags lead to.
fn configuration(flags: &[(&'static str, &str)]) -> Result<Config, Vec<String>> {
    let given = |(key, value): &(&'static str, &str)| Given {
        key,
        value: value.into(),
        origin: Origin::Flag(format!("--{key}")),
    };
    load(&Options { flags: flags.iter().map(given).collect(), ..Options::default() }, [])
}

/// A file of this content, and its path for as long as it is open.
fn file(content: &[u8]) -> (File, String) {
    let mut file = File::from(memfd_create("input", MemfdFlags::CLOEXEC).unwrap());
    file.write_all(content).unwrap();
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    (file, path)
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Builder::new_current_thread().enable_all().build().unwrap())
}

/// One port for all inputs. Call it inside the runtime.
fn listener() -> TcpListener {
    static LISTENER: OnceLock<net::TcpListener> = OnceLock::new();
    let listener = LISTENER.get_or_init(|| {
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        listener
    });
    TcpListener::from_std(listener.try_clone().unwrap()).unwrap()
}

/// Checks one line for people.
fn is_line(text: &str) {
    is_text(text, 1);
    assert!(!text.is_empty());
}

/// Checks a text for people: at most this number of lines, and no control characters.
fn is_text(text: &str, lines: usize) {
    let is_control = |c: char| c.is_control() && c != '\n';
    assert!(!text.contains(is_control) && text.lines().count() <= lines, "{text:?}");
}

/// Checks a name of the identity, if it has no placeholders of the metadata service.
fn is_name(text: &str, shortest: usize) {
    let literal = |part| match part {
        Part::Text(text) => Some(text),
        Part::Placeholder(_) => None,
    };
    if let Some(sent) = parts(text).unwrap().into_iter().map(literal).collect::<Option<String>>() {
        is_sent(&sent, shortest);
        is_text(&sent, 1);
    }
}

/// Checks that the service's model allows the text.
fn is_sent(text: &str, shortest: usize) {
    assert!((shortest..=NAME).contains(&text.chars().count()), "{text:?}");
    let is_refused = |c| c < ' ' && !"\t\r\n".contains(c) || ['\u{FFFE}', '\u{FFFF}'].contains(&c);
    assert!(!text.contains(is_refused), "{text:?}");
}

/// Checks that two values are the same, but for the last digits of numbers.
fn is_alike(one: &Value, other: &Value) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            assert!(one.keys().eq(other.keys()));
            one.values().zip(other.values()).for_each(|(one, other)| is_alike(one, other));
        }
        (Value::Number(one), Value::Number(other)) => {
            let (one, other) = (one.as_f64().unwrap(), other.as_f64().unwrap());
            assert!((one - other).abs() <= one.abs() * 1e-15, "{one} {other}");
        }
        _ => assert_eq!(one, other),
    }
}
