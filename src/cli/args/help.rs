//! The longer help texts, at most 80 columns wide.

pub(super) const GENERAL: &str = "\
Each option of a command is also a variable, TASKBEAT_INTERVAL for --interval,
and a key of the same name in the TOML file that --config names. The option wins
over the variable, the variable over the file.

Start with `taskbeat rehearse -- COMMAND`: it needs no account and no network.";

pub(super) const RUN: &str = "\
Send heartbeats and supervise the runner.

Only these stop the runner: the service answers terminate; SIGTERM or SIGINT to
taskbeat (an attached runner is let go instead); its own exit; and
--lost-contact-after. A failed heartbeat never does: taskbeat retries it for as
long as it runs.

A stop is the stop signal, then --grace, then SIGKILL to whatever is left of the
runner: its process group and every descendant. A second SIGTERM or SIGINT makes
the SIGKILL immediate; those within one second of the first are the same stop.
Ctrl-C reaches the runner from the terminal, so taskbeat sends it nothing.
Heartbeats go on until the runner is gone, but end at terminate. A stop before
the runner's start starts nothing.

SIGHUP reloads the settings; in a terminal it is a stop, under nohup nothing.
SIGTSTP, SIGTTIN and SIGTTOU go to the runner, and taskbeat stops when the
runner's first process has stopped; SIGCONT resumes both. taskbeat ignores
SIGPIPE, SIGXCPU and SIGXFSZ. Every other signal that would end taskbeat goes to
the runner. If taskbeat is killed, the kernel kills the runner's first process,
unless that has changed its user.";

pub(super) const RUN_EXIT: &str = "\
Exit status:
  0        terminate was obeyed, or taskbeat was stopped without a command
  N        the runner's own, after its exit or a stop
  128+n    signal n ended the runner, or stopped taskbeat before its start
  1        the process of --pid has ended
  64       wrong usage
  69       contact with the service was lost
  70       internal error
  75       another taskbeat on this host has this ID, or --metrics-listen is taken
  78       the configuration is invalid, or --pid may not be signalled
  126      the command cannot be executed
  127      the command was not found";

pub(super) const ONCE: &str = "\
Send one heartbeat and print the answer: {\"terminate\": false}

It tests region, endpoint, credentials and permission, and counts as a heartbeat
of the taskrunner ID. Nothing is retried, and no runner is started or stopped.";

pub(super) const ONCE_EXIT: &str = "\
Exit status:
  0        acknowledged
  10       the service answers terminate
  64       wrong usage
  69       no answer
  77       rejected
  78       the configuration is invalid";

pub(super) const CHECK: &str = "\
Print the settings, the runner, the host and warnings; send nothing

Each setting has its value and where it came from. The runner is the command
that would be started, or the process that taskbeat would attach to now. Each
warning has its remedy. With --online, credentials are resolved, too.";

pub(super) const CHECK_EXIT: &str = "\
Exit status:
  0        the configuration is valid
  64       wrong usage
  69       no region, credentials or certificates were found, with --online
  78       the configuration is invalid";

pub(super) const STATUS: &str = "\
Print the running daemon's status; fail unless it is in contact

Asks the daemon of this host that has the taskrunner ID. Root and the user of
the daemon see everything, other users only whether it is in contact.";

pub(super) const STATUS_EXIT: &str = "\
Exit status:
  0        in contact: acknowledged within two intervals, or terminated and idle
  64       wrong usage
  69       not in contact, or no taskbeat on this host reports this taskrunner ID
  78       the configuration is invalid";

pub(super) const REHEARSE_EXIT: &str = "\
Exit status:
  0        every step was played and no process had to be killed
  1        otherwise
  64       wrong usage
  69       the endpoint cannot listen
  78       the configuration is invalid";
