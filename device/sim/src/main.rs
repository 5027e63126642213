//! A generated iPhone from the command line: its backup folder, or the phone itself on a socket.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

#[cfg(unix)]
use heirloom_sim::{Listen, Options, Simulator};
use heirloom_sim::{Phone, write_backup};

const HELP: &str = "\
A generated iPhone.

Usage: heirloom-sim write [--seed N] [--size BYTES] [--days N] DIR
       heirloom-sim serve [--seed N] [--size BYTES] [--days N] [--password PASSWORD] --socket PATH

write leaves the phone's backup in DIR/<udid>. If it is there from an earlier day of the same phone, it is updated in place:
what has not changed is not touched.

serve attaches the phone to a socket that usbmuxd's clients can use, USBMUXD_SOCKET_ADDRESS=UNIX:PATH.
A line on standard input makes it live one day; the end of standard input ends nothing.

  --seed N         which phone (default 1)
  --size BYTES     how much is on it, with K, M or G for powers of 1000 (default 300M)
  --days N         how many days it has been in use since its first backup (default 0)
  --password TEXT  its backups are encrypted with this password
";

struct Arguments {
    command: Command,
    seed: u64,
    size: u64,
    days: u32,
    password: Option<String>,
    place: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Command {
    Write,
    Serve,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let Some(arguments) = parse(&arguments) else {
        eprint!("{HELP}");
        return ExitCode::from(2);
    };
    let outcome = match arguments.command {
        Command::Write => write(&arguments),
        Command::Serve => serve(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("heirloom-sim: {}: {error}", arguments.place.display());
            ExitCode::FAILURE
        }
    }
}

fn write(arguments: &Arguments) -> io::Result<()> {
    let phone = phone(arguments)?;
    let stats = write_backup(&phone, &arguments.place)?;
    println!("{}", arguments.place.join(phone.udid()).display());
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

#[cfg(unix)]
fn serve(arguments: &Arguments) -> io::Result<()> {
    let options = Options {
        listen: Listen::Unix(arguments.place.clone()),
        password: arguments.password.clone(),
        ..Options::default()
    };
    let simulator = Simulator::start(phone(arguments)?, options)?;
    println!("{} at USBMUXD_SOCKET_ADDRESS={}", simulator.udid(), simulator.address());
    for line in io::stdin().lines() {
        line?;
        simulator.live_one_day()?;
        println!("a day later; {:?}; {:?}", simulator.traffic(), simulator.complaints());
    }
    loop {
        std::thread::park();
    }
}

#[cfg(not(unix))]
fn serve(_: &Arguments) -> io::Result<()> {
    Err(io::Error::other("there are no unix sockets here"))
}

fn phone(arguments: &Arguments) -> io::Result<Phone> {
    let mut phone = Phone::new(arguments.seed, arguments.size)?;
    (0..arguments.days).try_for_each(|_| phone.live_one_day())?;
    Ok(phone)
}

fn parse(arguments: &[String]) -> Option<Arguments> {
    let (command, rest) = arguments.split_first()?;
    let command = match command.as_str() {
        "write" => Command::Write,
        "serve" => Command::Serve,
        _ => return None,
    };
    let (mut seed, mut size, mut days, mut password, mut place) = (1, 300_000_000, 0, None, None);
    let mut rest = rest.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--seed" => seed = rest.next()?.parse().ok()?,
            "--size" => size = parse_size(rest.next()?)?,
            "--days" => days = rest.next()?.parse().ok()?,
            "--password" if command == Command::Serve => password = Some(rest.next()?.clone()),
            "--socket" if command == Command::Serve => place = Some(PathBuf::from(rest.next()?)),
            argument if command == Command::Serve || argument.starts_with('-') || place.is_some() => return None,
            argument => place = Some(PathBuf::from(argument)),
        }
    }
    Some(Arguments { command, seed, size, days, password, place: place? })
}

fn parse_size(text: &str) -> Option<u64> {
    let units = [('K', 1_000), ('M', 1_000_000), ('G', 1_000_000_000)];
    let unit = units.iter().find_map(|(letter, unit)| Some((text.strip_suffix(*letter)?, *unit)));
    let (number, unit) = unit.unwrap_or((text, 1));
    number.parse::<u64>().ok()?.checked_mul(unit)
}
