//! What only unsafe code can do: act between fork and exec and in the handler of a signal, set the signal mask, wait for
//! a descriptor.
#![expect(unsafe_code, reason = "these calls have no safe form")]

use std::env;
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};
use rustix::time::{ClockId, clock_gettime};
use signal_hook_registry::register_sigaction;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The last signal number of Linux on every architecture that Rust runs on but MIPS.
const LAST_SIGNAL: libc::c_int = 64;

/// Lets `command` begin as if a shell had started it: no signal blocked, none ignored. And it does not outlive us: the
/// kernel sends it SIGKILL when this thread ends, so spawn from the main thread only.
pub(crate) fn as_our_child(command: &mut Command) {
    let us = getpid();
    // SAFETY: between fork and exec only async-signal-safe calls are allowed. `begin` makes system calls through
    // rustix and calls sigprocmask and signal of the C library, all of which are on the list of signal-safety(7) or
    // plain system calls; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(move || begin(us)) };
}

fn begin(parent: Pid) -> io::Result<()> {
    unblock_signals()?;
    for signal in 1..=LAST_SIGNAL {
        // SAFETY: SIG_DFL runs no code of ours. The signals that cannot be changed, and those the C library keeps to
        // itself, are refused with an error that means nothing here.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // A parent that was gone before the kernel was told sends nothing any more.
    if getppid() == Some(parent) {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::ECHILD))
    }
}

/// Unblocks every signal: whoever started us may have left some blocked, and we want to hear them.
pub(crate) fn unblock_signals() -> io::Result<()> {
    set_mask(libc::SIG_SETMASK, &[])
}

/// Calls `act` while a SIGTTOU would not stop us. Threads that it starts are never stopped by one.
pub(crate) fn without_sigttou<T>(act: impl FnOnce() -> T) -> io::Result<T> {
    set_mask(libc::SIG_BLOCK, &[libc::SIGTTOU])?;
    let done = act();
    set_mask(libc::SIG_UNBLOCK, &[libc::SIGTTOU])?;
    Ok(done)
}

fn set_mask(how: libc::c_int, signals: &[libc::c_int]) -> io::Result<()> {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set that it is given, and sigaddset changes it; the mask
    // is changed for this thread alone, and the old one is not asked for.
    let status = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        libc::sigprocmask(how, set.as_ptr(), ptr::null_mut())
    };
    if status == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Sets a variable of our own environment. To be called while there is one thread.
pub(crate) fn set_variable(name: &str, value: &str) {
    // SAFETY: only another thread could read or write the environment meanwhile, and there is none yet.
    unsafe { env::set_var(name, value) };
}

/// Removes a variable from the environment. To be called while there is one thread.
pub(crate) fn remove_variable(name: &OsStr) {
    // SAFETY: as for `set_variable`.
    unsafe { env::remove_var(name) };
}

/// Whether `signal` is ignored, which we can only have inherited.
pub(crate) fn is_ignored(signal: libc::c_int) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: with no new action the old one is only copied to where `action` has room for it, and
    // it is read only if that succeeded.
    unsafe {
        libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

/// Counts how often `signal` arrives from processes. One that the same process sends less than `apart` after another that
/// counted does not count.
///
/// Only the handler knows when that is: neither the kernel nor the stream of signals keeps the time.
pub(crate) fn count_arrivals(signal: libc::c_int, apart: Duration) -> io::Result<Arc<AtomicU32>> {
    /// The bits of a process id, which is less than 2^22 by proc(5); those above them are the time's.
    const PID: u32 = 22;
    let count = Arc::new(AtomicU32::new(0));
    let (counted, last) = (Arc::clone(&count), AtomicU64::new(0));
    let apart = u64::try_from(apart.as_millis()).unwrap_or(u64::MAX);
    let handler = move |info: &libc::siginfo_t| {
        if info.si_code > 0 {
            return;
        }
        // SAFETY: a signal that a process sent has its id in the siginfo.
        let sender = u64::from(unsafe { info.si_pid() }.unsigned_abs());
        let now = Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default();
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let is_echo = |last: u64| {
            last & ((1 << PID) - 1) == sender && now.saturating_sub(last >> PID) < apart
        };
        let this = now << PID | sender;
        let stamped = last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
            (!is_echo(last)).then_some(this)
        });
        if stamped.is_ok() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    };
    // SAFETY: a handler may only make async-signal-safe calls. This one reads the clock, which is on the list of
    // signal-safety(7), and changes atomic numbers; it allocates nothing, takes no lock and does not panic.
    unsafe { register_sigaction(signal, handler) }?;
    Ok(count)
}

/// Makes the runtime wait for `fd` to become readable.
pub(crate) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open for as long as it lives, always gives the same number, and is closed only when the
    // AsyncFd that owns it is dropped.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}
