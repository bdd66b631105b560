//! A fleet of runners and the account limit they share, in virtual time.
//!
//! `cargo bench --bench fleet [-- DRAWING [SEED]]` plays each policy through each scenario, prints
//! the results as a table and draws them. The same seed gives the same output. taskbeat's own
//! policy is played with more seeds, starting at this one, and with an interval of seconds. The
//! bench fails if any of these misses a goal.

mod crash;
mod drawing;
mod goals;
mod limit;
mod measure;
mod policies;
mod scenario;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use crash::CrashLoop;
use goals::CRASHING_FLEET;
use measure::Measure;
use policies::Kind;
use scenario::{Scenario, play};

const SIZES: [u32; 4] = [100, 800, 1_600, 10_000];
const SEED: u64 = 1;

/// The number of seeds that must meet the goals.
const SEEDS: u64 = 40;

/// The result of one scenario, one policy and one size of the fleet.
struct Row {
    scenario: Scenario,
    size: u32,
    kind: Kind,
    measure: Measure,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // `cargo bench` passes it. Without it this is a quick test of the bench, in a debug build.
    let in_full = args.iter().any(|arg| arg == "--bench");
    let mut plain = args.iter().filter(|arg| !arg.starts_with("--"));
    let drawing = plain.next().map_or("benches/fleet/fleet.svg".into(), PathBuf::from);
    let Ok(seed) = plain.next().map_or(Ok(SEED), |seed| seed.parse()) else {
        eprintln!("fleet: the seed is a whole number");
        return ExitCode::FAILURE;
    };

    println!("A limit of 1 call/s with a burst of 100; an interval of 15 min; seed {seed}.\n");
    let sizes = if in_full { &SIZES[..] } else { &SIZES[..2] };
    let mut rows = Vec::new();
    for scenario in Scenario::ALL {
        println!("{}", table::head(scenario));
        for size in sizes {
            for kind in Kind::ALL {
                let measure = play(scenario, *size, kind, seed);
                println!("{}", table::line(scenario, *size, kind, &measure));
                rows.push(Row { scenario, size: *size, kind, measure });
            }
        }
        println!();
    }

    println!("{}", table::head(Scenario::Reload(None)));
    for crash_loop in [None, Some(CrashLoop::Child), Some(CrashLoop::Followed)] {
        let scenario = Scenario::Reload(crash_loop);
        let measure = play(scenario, CRASHING_FLEET, Kind::Taskbeat, seed);
        let line = table::line(scenario, CRASHING_FLEET, Kind::Taskbeat, &measure);
        println!("{line}");
    }
    println!();

    let seeds = if in_full { SEEDS } else { 1 };
    let seeds: Vec<u64> = (0..seeds).map(|more| seed.wrapping_add(more)).collect();
    let met = goals::check(&rows, &seeds);
    if in_full {
        let folder = drawing.parent().map_or(Ok(()), std::fs::create_dir_all);
        let written = folder.and_then(|()| std::fs::write(&drawing, drawing::draw(&rows)));
        if let Err(error) = written {
            eprintln!("fleet: {}: {error}", drawing.display());
            return ExitCode::FAILURE;
        }
        println!("\nFor the README:\n\n{}", table::summary(&rows));
        println!("\nDrawn to {}.", drawing.display());
    }
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
