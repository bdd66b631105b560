//! System calls that have no safe form: what runs between fork and exec, the signal mask, the
//! environment, waiting for a descriptor, the allocator, and faults.
#![expect(unsafe_code, reason = "these calls have no safe form")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::env;
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::write;
use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal, setsid};
use rustix::stdio::stderr;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The last signal number of Linux on every architecture of Rust but MIPS.
pub(crate) const LAST_SIGNAL: i32 = 64;

/// Prepares `command` to start as from a shell: no signal blocked, and none ignored but those in
/// `ignored`. The kernel kills it when taskbeat's thread that started it ends, so spawn from a
/// thread that outlives it.
pub(crate) fn prepare_child(command: &mut Command, ignored: Vec<i32>) {
    let taskbeat = getpid();
    // SAFETY: between fork and exec only async-signal-safe calls are allowed. `before_exec` makes
    // system calls through rustix and calls sigprocmask and signal of the C library, all of which
    // are on the list of signal-safety(7) or plain system calls; it allocates nothing and takes no
    // lock.
    unsafe { command.pre_exec(move || before_exec(taskbeat, &ignored)) };
}

fn before_exec(parent: Pid, ignored: &[i32]) -> io::Result<()> {
    unblock_signals()?;
    for signal in 1..=LAST_SIGNAL {
        let action = if ignored.contains(&signal) { libc::SIG_IGN } else { libc::SIG_DFL };
        // SAFETY: neither action is a handler. Signals that cannot be changed, and those that the C
        // library reserves, are refused with an error that has no meaning here.
        unsafe { libc::signal(signal, action) };
    }
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // If the parent ended before that call, the kernel will not send the signal.
    if getppid() == Some(parent) { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ECHILD)) }
}

/// Lets `command` lead a session of its own.
pub(crate) fn in_new_session(command: &mut Command) {
    // SAFETY: as in `prepare_child`; setsid is a plain system call.
    unsafe { command.pre_exec(|| setsid().map(drop).map_err(io::Error::from)) };
}

/// Unblocks every signal, because taskbeat may have been started with some of them blocked.
pub(crate) fn unblock_signals() -> io::Result<()> {
    set_mask(libc::SIG_SETMASK, &[])
}

/// Calls `act` with SIGTTOU blocked, so that it cannot stop taskbeat. A thread that `act` starts
/// keeps it blocked.
pub(crate) fn without_sigttou<T>(act: impl FnOnce() -> T) -> io::Result<T> {
    set_mask(libc::SIG_BLOCK, &[libc::SIGTTOU])?;
    let result = act();
    set_mask(libc::SIG_UNBLOCK, &[libc::SIGTTOU])?;
    Ok(result)
}

fn set_mask(how: libc::c_int, signals: &[libc::c_int]) -> io::Result<()> {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set, sigaddset changes it, and sigprocmask changes the
    // mask of this thread alone; the old mask is not asked for.
    let status = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        libc::sigprocmask(how, set.as_ptr(), ptr::null_mut())
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets or removes a variable of taskbeat's own environment. Call it while there is only one
/// thread.
pub(crate) fn set_variable(name: impl AsRef<OsStr>, value: Option<&str>) {
    // SAFETY: only another thread could read or write the environment meanwhile, and there is none.
    unsafe {
        match value {
            Some(value) => env::set_var(name, value),
            None => env::remove_var(name),
        }
    }
}

/// True if taskbeat was started with `signal` ignored.
pub(crate) fn is_ignored(signal: libc::c_int) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: without a new action the old one is only copied to `action`, which has room for it,
    // and it is read only if that succeeded.
    unsafe {
        libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

/// The signal of this number, which was caught.
pub(crate) fn caught_signal(number: i32) -> Signal {
    // SAFETY: the C library lets no program catch the numbers that it reserves, so `number` is none
    // of them, nor 0.
    unsafe { Signal::from_raw_unchecked(number) }
}

/// Makes the runtime wait for `fd` to become readable.
pub(crate) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open as long as it lives, always has the same number, and is closed
    // only when the AsyncFd that owns it is dropped.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}

/// Runs before Rust's runtime, which would catch SIGSEGV and SIGBUS if their action were the
/// default. To report a stack overflow, it maps a second stack for each thread, and aborts if there
/// is no memory for one.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = keep_faults;

extern "C" fn keep_faults() {
    act_on(&FAULTS, libc::SIG_IGN);
}

/// The faults that Rust's runtime would catch.
const FAULTS: [libc::c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];

/// Gives faults and SIGCHLD their default action. While SIGCHLD is ignored, as a parent may have
/// left it, the kernel reaps children, and their exit status is lost.
pub(crate) fn reset_inherited() {
    reset_signals(FAULTS.iter().chain(&[libc::SIGCHLD]));
}

/// Gives these signals their default action.
pub(crate) fn reset_signals<'a>(signals: impl IntoIterator<Item = &'a libc::c_int>) {
    act_on(signals, libc::SIG_DFL);
}

fn act_on<'a>(signals: impl IntoIterator<Item = &'a libc::c_int>, action: libc::sighandler_t) {
    for signal in signals {
        // SAFETY: neither action is a handler.
        unsafe { libc::signal(*signal, action) };
    }
}

/// The allocator of the C library, which can wait for memory instead of failing.
struct Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

static WAITS: AtomicBool = AtomicBool::new(false);
static WAITED: AtomicBool = AtomicBool::new(false);

/// Makes every thread wait while the host has no memory. Without this, Rust aborts, and the kernel
/// kills the runner.
pub(crate) fn wait_for_memory() {
    WAITS.store(true, Relaxed);
}

// SAFETY: all of it is the C library's allocator, called as this one is called.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: see above.
        patiently(|| unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: see above.
        patiently(|| unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: see above.
        patiently(|| unsafe { System.realloc(old, layout, size) })
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: see above.
        unsafe { System.dealloc(old, layout) }
    }
}

fn patiently(allocate: impl Fn() -> *mut u8) -> *mut u8 {
    loop {
        let memory = allocate();
        if !memory.is_null() || !WAITS.load(Relaxed) {
            return memory;
        }
        if !WAITED.swap(true, Relaxed) {
            tell_waiting();
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Writes a line to stderr. The log would allocate, and a blocked stderr must not block the loop.
fn tell_waiting() {
    let mut ready = [PollFd::from_borrowed_fd(stderr(), PollFlags::OUT)];
    if poll(&mut ready, Some(&Timespec::default())) == Ok(1) {
        let _ = write(stderr(), b"taskbeat: out of memory, waiting\n");
    }
}
