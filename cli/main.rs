//! heirloom: keeps the history of iPhones in a deduplicated, encrypted repository.
//!
//! `args` parses the command line, a file for each verb does the work, `report` speaks, and failures are explained by
//! `failure`. Only this program prints, reads the environment, and knows both the store and Apple's backup format.

mod access;
mod args;
mod backup;
mod backup_folder;
mod check;
mod clock;
mod copy;
mod decrypt;
#[cfg(feature = "demo")]
mod demo;
mod devices;
mod doctor;
mod drive;
mod encryption;
mod export;
mod failure;
mod forget;
mod host_folder;
mod identity;
mod import;
mod info_plist;
mod init;
mod interrupt;
mod key;
mod location;
mod ls;
mod manifest;
mod missing;
mod mounts;
mod naming;
mod operation;
mod pair;
mod password;
mod phone;
mod pin;
mod prune;
mod quantity;
mod question;
mod recovery_key;
mod repair;
mod report;
mod restore;
mod retention;
mod same_backup;
mod shell;
mod snapshot_spec;
mod snapshots;
mod stats;
mod synced_folder;
mod trust;
mod typed;
mod undelete;
mod unlocking;
mod warnings;

use std::process::ExitCode;

use clap::Parser;

use crate::{
    args::{Arguments, Command, Global, KeyAction},
    failure::{Exit, Failure, Result},
    report::Report,
};

fn main() -> ExitCode {
    interrupt::outlive_file_size_limit();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return not_understood(&error),
    };
    let report = Report::new(&arguments.global).ending_with_its_reader(is_listing(&arguments.command));
    let result = run(&arguments, &report);
    let said = report.flush();
    let exit = result.and_then(|exit| said.map(|()| exit)).unwrap_or_else(|failure| {
        if failure.exit != Exit::Ok {
            if let Some(next) = after_interruption(&arguments.command).filter(|_| failure.exit == Exit::Interrupted) {
                report.note(next);
            }
            report.error(&failure);
        }
        failure.exit
    });
    report.summary(exit);
    ExitCode::from(exit.code())
}

/// Ends with help or a version, or with what is wrong with the words that were typed: in JSON if that is among them.
fn not_understood(error: &clap::Error) -> ExitCode {
    let mut typed = std::env::args_os().skip(1).take_while(|word| word != "--");
    if !error.use_stderr() || !typed.any(|word| word == "--json") {
        error.exit();
    }
    let failure = Failure::of_usage(error);
    Report::new(&Global { json: true, ..Global::default() }).error(&failure);
    ExitCode::from(failure.exit.code())
}

fn run(Arguments { global, command }: &Arguments, report: &Report) -> Result<Exit> {
    if report.json && !has_json(command) {
        return Err(
            Failure::new(Exit::Usage, "this command has no result that could be JSON").hint("leave --json away")
        );
    }
    match command {
        Command::Init(args) => init::run(args, global, report),
        Command::Devices(_) => devices::run(global, report),
        Command::Pair(args) => pair::run(args, report),
        Command::Backup(args) => backup::run(args, global, report),
        Command::Import(args) => import::run(args, global, report),
        Command::Snapshots(args) => snapshots::run(args, global, report),
        Command::Stats(args) => stats::run(args, global, report),
        Command::Ls(args) => ls::run(args, global, report),
        Command::Export(args) => export::run(args, global, report),
        Command::Restore(args) => restore::run(args, global, report),
        Command::Encryption(args) => encryption::run(args, global, report),
        Command::Decrypt(args) => decrypt::run(args, global, report),
        Command::Forget(args) => forget::run(args, global, report),
        Command::Undelete(args) => undelete::run(args, global, report),
        Command::Pin(args) => pin::pin(args, global, report),
        Command::Unpin(args) => pin::unpin(args, global, report),
        Command::Prune(args) => prune::run(args, global, report),
        Command::Check(args) => check::run(args, global, report),
        Command::Repair(args) => repair::run(args, global, report),
        Command::Copy(args) => copy::run(args, global, report),
        Command::Key(args) => key::run(args, global, report),
        Command::Trust(args) => trust::run(args, global, report),
        Command::Doctor(args) => doctor::run(args, report),
        #[cfg(feature = "demo")]
        Command::Demo(args) => demo::run(args),
        Command::Completions(args) => shell::completions(args, report),
        Command::Man(args) => shell::man(args, report),
    }
}

/// Says what has become of work that was broken off, and what to do next, unless the verb itself says so.
fn after_interruption(command: &Command) -> Option<&'static str> {
    match command {
        Command::Import(_) | Command::Copy(_) | Command::Decrypt(_) | Command::Export(_) => {
            Some("what is done is kept: the same command goes on from there")
        }
        Command::Prune(_) | Command::Repair(_) => Some("the repository is whole: the same command goes on"),
        Command::Restore(_) => {
            Some("if the phone had begun to take the snapshot, it has a part of it: restore it again")
        }
        Command::Encryption(_) => Some("`heirloom encryption status` says what holds now"),
        #[cfg(feature = "demo")]
        Command::Demo(_) => Some("the folder of the demo can be deleted"),
        _ => None,
    }
}

/// Whether the command does nothing but list, so that it may end when nobody reads on. All others do what they are for.
fn is_listing(command: &Command) -> bool {
    match command {
        Command::Devices(_) | Command::Snapshots(_) | Command::Stats(_) | Command::Ls(_) => true,
        Command::Completions(_) | Command::Man(_) => true,
        Command::Key(key) => matches!(key.action, KeyAction::List),
        _ => false,
    }
}

fn has_json(command: &Command) -> bool {
    match command {
        Command::Init(_) | Command::Import(_) | Command::Snapshots(_) | Command::Ls(_) => true,
        Command::Export(_) | Command::Check(_) | Command::Repair(_) | Command::Prune(_) | Command::Key(_) => true,
        Command::Forget(_) | Command::Undelete(_) | Command::Pin(_) | Command::Unpin(_) => true,
        Command::Copy(_) | Command::Doctor(_) | Command::Stats(_) | Command::Trust(_) => true,
        Command::Devices(_)
        | Command::Pair(_)
        | Command::Backup(_)
        | Command::Restore(_)
        | Command::Decrypt(_)
        | Command::Encryption(_) => true,
        #[cfg(feature = "demo")]
        Command::Demo(_) => false,
        Command::Completions(_) | Command::Man(_) => false,
    }
}
