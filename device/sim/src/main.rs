//! `heirloom-sim write`: a generated iPhone's backup folder from the command line.

use std::path::PathBuf;
use std::process::ExitCode;

use heirloom_sim::{Phone, write_backup};

const HELP: &str = "\
Writes the backup folder of a generated iPhone.

Usage: heirloom-sim write [--seed N] [--size BYTES] [--days N] DIR

  --seed N      which phone (default 1)
  --size BYTES  how much is on it, with K, M or G for powers of 1000 (default 300M)
  --days N      how many days it has been in use since its first backup (default 0)

The folder is DIR/<udid>. If it is there from an earlier day of the same phone, it is updated in place:
what has not changed is not touched.
";

struct Options {
    seed: u64,
    size: u64,
    days: u32,
    dir: PathBuf,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let Some(options) = parse(&arguments) else {
        eprint!("{HELP}");
        return ExitCode::from(2);
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("heirloom-sim: cannot write the backup in {}: {error}", options.dir.display());
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> std::io::Result<()> {
    let mut phone = Phone::new(options.seed, options.size)?;
    for _ in 0..options.days {
        phone.live_one_day()?;
    }
    let stats = write_backup(&phone, &options.dir)?;
    println!("{}", options.dir.join(phone.udid()).display());
    println!(
        "{} written ({:.1} MB), {} unchanged, {} removed; {:.1} MB on the phone",
        stats.written,
        stats.written_bytes as f64 / 1e6,
        stats.unchanged,
        stats.removed,
        phone.total_bytes() as f64 / 1e6
    );
    Ok(())
}

fn parse(arguments: &[String]) -> Option<Options> {
    let (command, mut arguments) = arguments.split_first().map(|(command, rest)| (command, rest.iter()))?;
    let (mut seed, mut size, mut days, mut dir) = (1, 300_000_000, 0, None);
    if command != "write" {
        return None;
    }
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seed" => seed = arguments.next()?.parse().ok()?,
            "--size" => size = parse_size(arguments.next()?)?,
            "--days" => days = arguments.next()?.parse().ok()?,
            argument if argument.starts_with('-') || dir.is_some() => return None,
            argument => dir = Some(PathBuf::from(argument)),
        }
    }
    Some(Options { seed, size, days, dir: dir? })
}

fn parse_size(text: &str) -> Option<u64> {
    let units = [('K', 1_000), ('M', 1_000_000), ('G', 1_000_000_000)];
    let unit = units.iter().find_map(|(letter, unit)| Some((text.strip_suffix(*letter)?, *unit)));
    let (number, unit) = unit.unwrap_or((text, 1));
    number.parse::<u64>().ok()?.checked_mul(unit)
}
