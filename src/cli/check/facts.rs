//! What a start would find: the runner, and the abilities of the host.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::path::PathBuf;

use rustix::fs::{Access, access};
use rustix::process::{PidfdFlags, geteuid, getpid, pidfd_open, set_child_subreaper};
use rustix::system::uname;
use serde::Serialize;

use crate::config::{Target, Warning, escaped};
use crate::runner;

/// The command that a start would run, or the process that it would attach to.
#[derive(Default, Serialize)]
pub(super) struct RunnerFacts {
    /// The id of the process to attach to.
    pid: Option<i32>,
    /// The command, or the name of the process. Empty if there is none.
    words: Vec<String>,
    /// The file that is executed.
    program: Option<String>,
    folder: Option<String>,
    user: Option<User>,
}

/// The id of a user, and the name that /etc/passwd has for it.
#[derive(Serialize)]
struct User {
    id: u32,
    name: Option<String>,
}

/// The abilities of the host.
#[derive(Serialize)]
pub(super) struct HostFacts {
    kernel: String,
    /// True if the kernel offers handles on processes.
    pidfd: bool,
    /// True if orphans of the runner can become children of taskbeat.
    subreaper: bool,
    /// True if a service manager receives notifications.
    notify_socket: bool,
}

impl RunnerFacts {
    /// Call it inside a runtime.
    pub(super) async fn find(target: &Target, warnings: &mut Vec<Warning>) -> Self {
        let remedy = match target {
            Target::Command(words) => return Self::to_start(words, warnings),
            Target::Pid(_) => "name a process that runs and that taskbeat may signal",
            Target::None | Target::PidFile(_) => {
                "start it; no heartbeat is sent without the runner"
            }
        };
        match runner::look(target).await {
            None => Self::default(),
            Some(Ok(process)) => {
                let pid = process.pid.as_raw_pid();
                let open = procfs::process::Process::new(pid).ok();
                let open = open.as_ref();
                Self {
                    pid: Some(pid),
                    words: vec![process.name],
                    program: open.and_then(|open| open.exe().ok()).map(shown),
                    folder: open.and_then(|open| open.cwd().ok()).map(shown),
                    user: open.and_then(|open| open.uid().ok()).map(User::new),
                }
            }
            Some(Err(problem)) => {
                warnings.push(Warning::new(problem, remedy));
                Self::default()
            }
        }
    }

    fn to_start(words: &[OsString], warnings: &mut Vec<Warning>) -> Self {
        let word = words.first().cloned().unwrap_or_default();
        let program = program(&word).map(shown);
        if program.is_none() {
            let word = escaped(&word.to_string_lossy());
            warnings.push(Warning::new(
                format!("{word} is no executable file, and in no folder of PATH"),
                "install it, or write its full path; a shell line needs sh -c before it",
            ));
        }
        Self {
            pid: None,
            words: words.iter().map(shown).collect(),
            program,
            folder: env::current_dir().ok().map(shown),
            user: Some(User::new(geteuid().as_raw())),
        }
    }
}

/// The file that is executed for the first word of a command, as by execvp(3).
fn program(word: &OsStr) -> Option<PathBuf> {
    let is_program = |path: &PathBuf| path.is_file() && access(path, Access::EXEC_OK).is_ok();
    if word.as_encoded_bytes().contains(&b'/') {
        return Some(word.into()).filter(is_program);
    }
    let folders = env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    env::split_paths(&folders).map(|folder| folder.join(word)).find(is_program)
}

fn shown(text: impl AsRef<OsStr>) -> String {
    text.as_ref().to_string_lossy().into_owned()
}

impl User {
    fn new(id: u32) -> Self {
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let name = users.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
        });
        Self { id, name }
    }
}

impl HostFacts {
    pub(super) fn find(warnings: &mut Vec<Warning>) -> Self {
        let mut warn_unless = |is_able: bool, problem: &str, remedy: &str| {
            if !is_able {
                warnings.push(Warning::new(problem, remedy));
            }
            is_able
        };
        Self {
            kernel: uname().release().to_string_lossy().into_owned(),
            pidfd: warn_unless(
                pidfd_open(getpid(), PidfdFlags::NONBLOCK).is_ok(),
                "the kernel offers no pidfds, without which no runner can be watched",
                "use Linux 5.10 or later, and a sandbox that allows pidfd_open",
            ),
            subreaper: warn_unless(
                set_child_subreaper(Some(getpid())).is_ok(),
                "the kernel does not let taskbeat adopt the runner's orphans",
                "use a sandbox that allows PR_SET_CHILD_SUBREAPER, if the runner has orphans",
            ),
            notify_socket: env::var_os("NOTIFY_SOCKET").is_some(),
        }
    }
}

impl fmt::Display for RunnerFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.words.iter().map(|word| escaped(word)).collect();
        let runs = match self.pid {
            Some(pid) => format!("process {pid}, {}", words.join(" ")),
            None if words.is_empty() => "-".to_owned(),
            None => words.join(" "),
        };
        let or_none = |text: &Option<String>| text.as_deref().map_or("-".to_owned(), escaped);
        let user = self.user.as_ref().map_or("-".to_owned(), |User { id, name }| {
            name.as_ref().map_or(id.to_string(), |name| format!("{} ({id})", escaped(name)))
        });
        writeln!(f, "runs                {runs}")?;
        writeln!(f, "program             {}", or_none(&self.program))?;
        writeln!(f, "folder              {}", or_none(&self.folder))?;
        writeln!(f, "user                {user}")
    }
}

impl fmt::Display for HostFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let yes = |is| if is { "yes" } else { "no" };
        writeln!(f, "kernel              {}", escaped(&self.kernel))?;
        writeln!(f, "pidfd               {}", yes(self.pidfd))?;
        writeln!(f, "subreaper           {}", yes(self.subreaper))?;
        writeln!(f, "notify socket       {}", yes(self.notify_socket))
    }
}
