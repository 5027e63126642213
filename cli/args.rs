//! What was typed: the command line as types, and its help. No behaviour.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use crate::{
    location::{named, typed, typed_or_none},
    retention::{KeepCount, Within},
};

const EXIT_CODES: &str = "\
Exit codes:
    0  ok
    1  failed
    2  usage
    3  finished, but incomplete
   10  no repository
   11  the repository is busy
   12  wrong or missing password
   13  not the repository that this computer knows: `heirloom trust`
   20  no phone in reach
   21  the phone does not trust this computer
   22  the phone refused: passcode, space, an error of its own
   23  wrong or missing password of the phone's backups
   30  damage found
  130  interrupted

Password of the repository, the first that is set:
  HEIRLOOM_PASSWORD            the password itself
  HEIRLOOM_PASSWORD_FILE       a file; its first line is the password
  HEIRLOOM_PASSWORD_COMMAND    a command; the first line that it prints is the password
  otherwise it is asked for on the terminal. The 15 words of the recovery key do as well.
The phone's own backup password: HEIRLOOM_BACKUP_PASSWORD, HEIRLOOM_BACKUP_PASSWORD_FILE, or it is asked for.
Where usbmuxd listens, if not in its usual place: USBMUXD_SOCKET_ADDRESS, as UNIX:/path or host:port.

Results go to stdout, all else to stderr. With --json results are JSON, there is no progress,
and each warning and error is one JSON object on a line of stderr:
  {\"message_type\":\"error\",\"code\":12,\"message\":\"…\",\"hint\":\"…\"}
If there were warnings, the last line tells how many of these lines there were:
  {\"message_type\":\"summary\",\"code\":3,\"warnings\":2}
In results `warnings` counts those about one backup, and `warning_count` those that a snapshot was kept with.";

const FIRST_STEPS: &str = "\
First steps:
  heirloom --repo /mnt/disk/phones init
  export HEIRLOOM_REPOSITORY=/mnt/disk/phones
  heirloom pair                          # once, with the phone on its cable
  heirloom backup                        # today's snapshot
  heirloom import ~/MobileSync/Backup    # older backups of Finder, iTunes or idevicebackup2
  heirloom snapshots
  heirloom restore latest                # onto a phone, or:
  heirloom export latest --to ~/restored

No phone and no backup at hand? `heirloom demo`";

const SNAPSHOT: &str = "\
SNAP names a snapshot:
  1f3a9c2e               its id, or at least the first 4 digits of it
  latest, latest~2       the newest of all devices; the second before it
  \"Maria's iPhone\"       the newest of a device, by its name or UDID
  @2026-05, @2026-05-03  the newest that was taken by the end of that month or day
  \"@2026-05-03 14:30\"    the same to the minute, in local time; RFC 3339 does as well
  \"Maria's iPhone@2026\"  the same of one device; ~N goes with all of them";

/// Keeps the whole history of a family's iPhones and iPads
#[derive(Debug, Parser)]
#[command(name = "heirloom", version, max_term_width = 110)]
#[command(after_help = FIRST_STEPS, after_long_help = format!("{FIRST_STEPS}\n\n{EXIT_CODES}"))]
pub struct Arguments {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The folder that holds the repository
    #[arg(
        long, short = 'r', global = true, env = "HEIRLOOM_REPOSITORY", hide_env_values = true, value_name = "PATH",
        value_parser = typed_or_none(), value_hint = clap::ValueHint::DirPath
    )]
    pub repo: Option<PathBuf>,
    /// Print results as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Say nothing but results, warnings and errors
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more
    #[arg(long, short, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Show no progress
    #[arg(long, global = true)]
    pub no_progress: bool,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    Init(Init),
    Devices(Devices),
    Pair(Pair),
    Backup(Backup),
    Import(Import),
    Snapshots(Snapshots),
    Stats(Stats),
    Ls(Ls),
    Export(Export),
    Restore(Restore),
    Encryption(Encryption),
    #[command(alias = "unseal")]
    Decrypt(Decrypt),
    Forget(Forget),
    Undelete(Undelete),
    Pin(Pin),
    Unpin(Unpin),
    Prune(Prune),
    Check(Check),
    Repair(Repair),
    Copy(CopySnapshots),
    Key(Key),
    Trust(Trust),
    Doctor(Doctor),
    #[cfg(feature = "demo")]
    Demo(Demo),
    Completions(Completions),
    Man(Man),
}

/// Create a repository
///
/// The repository is one folder, on any disk. It is encrypted, and opens with a password that you choose or with the
/// recovery key: 15 words that are shown once, now. Write them on paper. Where a disk seems not to be mounted, it asks
/// first; without a terminal it warns, or refuses if this computer is told (/etc/fstab, systemd) to mount one there.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  heirloom --repo /mnt/disk/phones init
  HEIRLOOM_PASSWORD_FILE=~/.phones heirloom --repo /mnt/disk/phones init
  heirloom --repo /mnt/disk/phones init --parity         # what rots on the disk can be repaired
  heirloom --repo /mnt/disk/phones init --no-password    # whoever has the disk can read it")]
pub struct Init {
    /// Set no password: everybody who has the folder can read it
    #[arg(long)]
    pub no_password: bool,
    /// How to encrypt; chacha20-poly1305 is faster on machines without AES hardware, such as an older Raspberry Pi
    #[arg(long, value_enum, default_value_t = CipherName::Aes256Gcm)]
    pub cipher: CipherName,
    /// Write parity beside every pack, from which `heirloom repair` mends what a disk has lost; takes 5 % more room,
    /// and a fifth more work
    #[arg(long)]
    pub parity: bool,
    /// Do not ask for words of the recovery key to see that it was written down
    #[arg(long)]
    pub no_verify: bool,
    /// Do not ask where a disk seems not to be mounted
    #[arg(long, short)]
    pub yes: bool,
}

/// The ciphers by their names in `config`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CipherName {
    #[value(name = "aes-256-gcm")]
    Aes256Gcm,
    #[value(name = "chacha20-poly1305")]
    ChaCha20Poly1305,
}

/// List the phones in reach
///
/// With a repository it also lists when each was last backed up there, if the repository opens without asking for its
/// password.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  heirloom devices
  heirloom --json devices | jq -r '.[].udid'")]
pub struct Devices {}

/// Make a phone trust this computer
///
/// Once for each phone and computer: the phone asks "Trust This Computer?", and wants its passcode. Pairings of Finder,
/// iTunes and libimobiledevice on this computer are used as they are.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  heirloom pair
  heirloom pair --udid 00008030-001A2B3C4D5E6F70")]
pub struct Pair {
    /// The phone, by its UDID or name, if several are in reach
    #[arg(long, value_name = "UDID", value_parser = named())]
    pub udid: Option<String>,
    /// Pair anew even if the phone trusts this computer
    #[arg(long)]
    pub force: bool,
}

/// Back up a phone into a new snapshot
///
/// The phone sends what has changed since its newest snapshot, and only what the repository does not have yet takes
/// room. There is no copy of the backup anywhere else. Without --udid every phone in reach is backed up, one after
/// another. A backup that is cut off leaves no snapshot and harms none; what has arrived is not stored again by the
/// next. A phone that has nothing new gets no new snapshot.
///
/// Files that the phone encrypts look new in each backup. With its backup password (HEIRLOOM_BACKUP_PASSWORD,
/// HEIRLOOM_BACKUP_PASSWORD_FILE, or typed when asked for) heirloom keeps them as plaintext, which deduplicates,
/// under the repository's own encryption. Without the password heirloom asks nothing of the phone, unless
/// --as-ciphertext is given.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  heirloom backup
  heirloom backup --udid \"Maria's iPhone\"
  heirloom backup --full        # the phone sends everything; still only what is new takes room

Since iOS 16.1 the phone asks for its passcode at every backup. Exit code 3 says that the backup is whole but for files
that the phone could not read; the warnings name them.")]
pub struct Backup {
    /// A phone, by its UDID or name; may be given more than once
    #[arg(long, value_name = "UDID", value_parser = named())]
    pub udid: Vec<String>,
    /// Have the phone send everything, as if there were no earlier snapshot
    #[arg(long)]
    pub full: bool,
    /// Make a snapshot even if the phone has nothing new
    #[arg(long)]
    pub force: bool,
    /// Keep what the phone encrypts as plaintext even in a repository that everybody can read
    #[arg(long)]
    pub plain_is_fine: bool,
    /// Keep what the phone encrypts as it is, without its password
    #[arg(long, conflicts_with_all = ["plain_is_fine", "remember_password"])]
    pub as_ciphertext: bool,
    /// Have the repository remember the backup's password
    #[arg(long)]
    pub remember_password: bool,
}

/// Put a snapshot onto a phone
///
/// By default the phone becomes what it was: its settings and data are those of the snapshot, and everything else is
/// removed from it. heirloom says what the snapshot lacks, and asks before it begins. `latest` is the newest snapshot
/// of this very phone; one of another phone is chosen by that phone's name. The phone restarts, and installs its apps
/// from the App Store afterwards.
#[derive(Debug, Args)]
#[command(after_help = format!("Examples:
  heirloom restore latest
  heirloom restore \"Maria's iPhone@2026-05\" --preset merge
  heirloom restore latest --udid 00008030-001A2B3C4D5E6F70
  HEIRLOOM_BACKUP_PASSWORD_FILE=~/.phone heirloom restore latest --yes

Before: switch off Find My on the phone, and let it run the iOS of the snapshot or a newer one.

{SNAPSHOT}"))]
pub struct Restore {
    /// The snapshot
    #[arg(value_name = "SNAP")]
    pub snapshot: String,
    /// The phone, by its UDID or name, if several are in reach
    #[arg(long, value_name = "UDID", value_parser = named())]
    pub udid: Option<String>,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
    /// What becomes of what is on the phone
    #[arg(long, value_enum, default_value_t = PresetName::Migrate)]
    pub preset: PresetName,
}

/// What a restore does with the phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PresetName {
    /// The phone becomes what the snapshot is; all else is removed from it
    Migrate,
    /// Apps and data of the snapshot are added; the phone's settings and what else is on it stay
    Merge,
    /// As merge, but with the settings of the snapshot
    Settings,
}

/// Show or change whether a phone encrypts its backups
///
/// Encryption is a setting of the phone: it holds for all its backups, on every computer, until it is changed. Only
/// encrypted backups hold saved passwords, health and call history. The phone asks for its passcode.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  heirloom encryption status
  heirloom encryption on
  heirloom encryption change-password --remember-password
  HEIRLOOM_NEW_BACKUP_PASSWORD_FILE=~/.phone heirloom encryption on

The password that holds now comes from HEIRLOOM_BACKUP_PASSWORD or HEIRLOOM_BACKUP_PASSWORD_FILE, a new one from
HEIRLOOM_NEW_BACKUP_PASSWORD or HEIRLOOM_NEW_BACKUP_PASSWORD_FILE; otherwise each is asked for. Keep it:
without it an encrypted backup cannot be restored.")]
pub struct Encryption {
    /// What to do
    #[arg(value_enum, value_name = "ACTION")]
    pub action: EncryptionAction,
    /// The phone, by its UDID or name, if several are in reach
    #[arg(long, value_name = "UDID", value_parser = named())]
    pub udid: Option<String>,
    /// Have the repository remember the new password; one that remembers an earlier password of the phone does so in
    /// any case
    #[arg(long)]
    pub remember_password: bool,
}

/// What to do with a phone's encryption of backups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EncryptionAction {
    /// Say whether backups are encrypted
    Status,
    /// Encrypt backups from now on, with a new password
    On,
    /// Encrypt them no more; needs the password
    Off,
    /// Change the password
    ChangePassword,
}

/// Take in backup folders of Finder, iTunes or idevicebackup2
///
/// PATH is the folder of one backup (UDID or UDID-YYYYMMDD-HHMMSS), or a folder of them. Each becomes a snapshot with
/// the backup's own time, and nothing in the folder is changed. Every file is kept, also those that Manifest.db does
/// not name. Only what the repository does not have yet takes room. A backup that is kept already is not kept twice.
///
/// Files that the phone encrypted look new in each backup. With the backup's password (HEIRLOOM_BACKUP_PASSWORD,
/// HEIRLOOM_BACKUP_PASSWORD_FILE, or typed when asked for) heirloom keeps them as plaintext, which deduplicates,
/// under the repository's own encryption; exports give the phone's ciphertext back bit for bit.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  heirloom import ~/Library/Application\\ Support/MobileSync/Backup
  heirloom import /mnt/old-laptop/MobileSync/Backup/00008030-001A2B3C4D5E6F70-20210115-023844

Exit code 3 says that everything readable was kept, but that something was missing; the warnings name it.")]
pub struct Import {
    /// A backup folder, or a folder of backup folders
    #[arg(required = true, value_name = "PATH", value_parser = typed(), value_hint = clap::ValueHint::DirPath)]
    pub paths: Vec<PathBuf>,
    /// Read every file, also those that look unchanged since the last import of the same folder
    #[arg(long)]
    pub full_read: bool,
    /// Make a snapshot even if the same is kept already
    #[arg(long)]
    pub force: bool,
    /// Keep what the phone encrypted as plaintext even in a repository that everybody can read
    #[arg(long)]
    pub plain_is_fine: bool,
    /// Keep what the phone encrypted as it is, without its password
    #[arg(long, conflicts_with_all = ["plain_is_fine", "remember_password"])]
    pub as_ciphertext: bool,
    /// Have the repository remember the backup's password
    #[arg(long)]
    pub remember_password: bool,
}

/// List snapshots, oldest first
///
/// SIZE is how much a snapshot holds, ADDED how much the repository grew by when it was made.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  heirloom snapshots
  heirloom snapshots --udid 00008030-001A2B3C4D5E6F70
  heirloom snapshots latest              # all that is known of one, with its warnings
  heirloom snapshots --trash             # what was forgotten, and can be undeleted
  heirloom --json snapshots | jq '.[-1].id'")]
pub struct Snapshots {
    /// Show these in full, with their warnings
    #[arg(value_name = "SNAP", conflicts_with_all = ["udid", "trash"])]
    pub snapshots: Vec<String>,
    /// Only those of one device, by its UDID or name
    #[arg(long, value_name = "UDID", value_parser = named())]
    pub udid: Option<String>,
    /// Those that were forgotten since the last prune
    #[arg(long)]
    pub trash: bool,
}

/// Show how much room the repository takes, and for which snapshots
///
/// SIZE is what a snapshot holds, ADDED what the repository grew by when it was made, UNIQUE about what forgetting it,
/// and nothing else, would let `heirloom prune --max-unused 0` free. What several snapshots have in common is unique to
/// none of them, so that forgetting all of those frees more; of a device, UNIQUE counts what its snapshots have in
/// common, but no other device has. What an interrupted backup keeps for the next one is unique to nobody. UNIQUE, and
/// what is needed, are estimates of a few percent.
#[derive(Debug, Args)]
#[command(after_help = format!("Examples:
  heirloom stats
  heirloom stats --udid \"Maria's iPhone\"
  heirloom stats latest @2024
  heirloom --json stats | jq '.repository.unneeded_bytes'
  heirloom --json stats | jq '.snapshots | max_by(.unique_bytes)'

What forgetting several would free together: `heirloom forget --dry-run SNAP...`

{SNAPSHOT}"))]
pub struct Stats {
    /// Only these snapshots
    #[arg(value_name = "SNAP", conflicts_with = "udid")]
    pub snapshots: Vec<String>,
    /// Only one device and its snapshots, by its UDID or name
    #[arg(long, value_name = "UDID", value_parser = named())]
    pub udid: Option<String>,
}

/// List what is in a snapshot
///
/// Without a domain: the domains, each with its files and size. With one: a folder, one level of it. The domain `:`
/// holds the backup's own files, such as Info.plist, and all others of its folder that Manifest.db does not name.
#[derive(Debug, Args)]
#[command(after_help = format!("Examples:
  heirloom ls latest
  heirloom ls latest HomeDomain:Library/SMS
  heirloom ls -R latest | grep -i voicemail
  heirloom ls latest :                   # Info.plist, Manifest.db, ...

{SNAPSHOT}"))]
pub struct Ls {
    /// The snapshot
    #[arg(value_name = "SNAP")]
    pub snapshot: String,
    /// Where to look
    #[arg(value_name = "DOMAIN[:PATH]")]
    pub place: Option<String>,
    /// List everything below, as DOMAIN:PATH
    #[arg(long, short = 'R')]
    pub recursive: bool,
    /// Show kind, mode, size and time of each
    #[arg(long, short)]
    pub long: bool,
}

/// Write a snapshot as a backup folder, byte for byte
///
/// Writes DIR/UDID/…, which Finder, iTunes and idevicebackup2 accept as their own. Every byte is verified on the way.
/// The same command goes on where an export was cut off.
#[derive(Debug, Args)]
#[command(after_help = format!("Examples:
  heirloom export latest --to ~/restored
  heirloom export \"Maria's iPhone@2024\" --to /mnt/usb

{SNAPSHOT}"))]
pub struct Export {
    /// The snapshot
    #[arg(value_name = "SNAP")]
    pub snapshot: String,
    /// The folder in which the backup folder is made
    #[arg(long, value_name = "DIR", value_parser = typed(), value_hint = clap::ValueHint::DirPath)]
    pub to: PathBuf,
    /// Write into a folder that exists; files of the same name are replaced. One that holds files of another backup is
    /// refused
    #[arg(long)]
    pub force: bool,
}

/// Convert snapshots that are kept as the phone encrypted them, with their password
///
/// A snapshot that was taken without the backup's password is kept as ciphertext, which does not deduplicate.
/// `decrypt` makes each anew of the same files, kept as plaintext, reads all of it back, and only then forgets the
/// old one; a pin goes over to the new one. Without SNAP it converts all such snapshots. Exports and restores stay
/// bit for bit what they were.
#[derive(Debug, Args)]
#[command(after_help = format!("Examples:
  heirloom decrypt
  HEIRLOOM_BACKUP_PASSWORD_FILE=~/.phone heirloom decrypt \"Maria's iPhone@2024\"

A backup has the password that the phone had then. Snapshots that no password opens stay as they are: exit code 3,
or 23 if nothing was converted.

{SNAPSHOT}"))]
pub struct Decrypt {
    /// Snapshots; all that are kept as ciphertext if none is named
    #[arg(value_name = "SNAP")]
    pub snapshots: Vec<String>,
    /// Keep plaintext even in a repository that everybody can read
    #[arg(long)]
    pub plain_is_fine: bool,
    /// Have the repository remember the backup's password
    #[arg(long)]
    pub remember_password: bool,
}

/// Let go of snapshots, by name or by rules
///
/// Forgotten snapshots are not listed any more, but take room and can be undeleted until the next prune. `forget`
/// does not ask: --dry-run shows which snapshots would go, and why the others stay.
///
/// Rules say which snapshots of each device to keep; those that no rule keeps are forgotten. Rules count back from
/// the newest snapshot, by the times of the backups, in local time: `--keep-daily 14` keeps the newest snapshot of
/// each of the last 14 days that have one, and the oldest of all while there are fewer. N may be `unlimited`. Pinned
/// snapshots are always kept, and no rule counts them.
#[derive(Debug, Args)]
#[command(after_help = format!("Examples:
  heirloom forget --keep-daily 14 --keep-monthly 12 --keep-yearly unlimited --dry-run
  heirloom forget --keep-within 90d --keep-monthly 24 --udid \"Maria's iPhone\"
  heirloom forget 1f3a9c2e latest~3
  heirloom forget --keep-last 30 --prune     # and free the room at once

{SNAPSHOT}"))]
pub struct Forget {
    /// Snapshots to forget
    #[arg(value_name = "SNAP")]
    pub snapshots: Vec<String>,
    /// Apply the rules to one device alone, by its UDID or name
    #[arg(long, value_name = "UDID", value_parser = named())]
    pub udid: Option<String>,
    /// Show what would be done, and do nothing
    #[arg(long, short = 'n')]
    pub dry_run: bool,
    /// Free the room of what is forgotten at once; it cannot be undeleted then
    #[arg(long)]
    pub prune: bool,
    #[command(flatten)]
    pub keep: Keep,
}

/// What to keep, in any number of rules.
#[derive(Debug, Args)]
#[command(next_help_heading = "Rules")]
pub struct Keep {
    /// Keep the last N snapshots
    #[arg(long, value_name = "N")]
    pub keep_last: Option<KeepCount>,
    /// Keep the newest of each of the last N hours that have one
    #[arg(long, value_name = "N")]
    pub keep_hourly: Option<KeepCount>,
    /// The same of days
    #[arg(long, value_name = "N")]
    pub keep_daily: Option<KeepCount>,
    /// The same of weeks, which begin on Monday
    #[arg(long, value_name = "N")]
    pub keep_weekly: Option<KeepCount>,
    /// The same of months
    #[arg(long, value_name = "N")]
    pub keep_monthly: Option<KeepCount>,
    /// The same of years
    #[arg(long, value_name = "N")]
    pub keep_yearly: Option<KeepCount>,
    /// Keep all that are less than this older than the newest: years, months, days and hours, such as 90d, 1y6m, 36h
    #[arg(long, value_name = "D")]
    pub keep_within: Option<Within>,
}

/// Bring forgotten snapshots back
///
/// That works until the next prune. Without SNAP it lists the snapshots that can come back.
#[derive(Debug, Args)]
#[command(after_help = format!("Examples:
  heirloom undelete
  heirloom undelete 1f3a9c2e

Names are looked for among what was forgotten.

{SNAPSHOT}"))]
pub struct Undelete {
    /// Snapshots that were forgotten
    #[arg(value_name = "SNAP")]
    pub snapshots: Vec<String>,
}

/// Keep snapshots from being forgotten
///
/// `forget` leaves a pinned snapshot alone, whatever rules or names it is given, until the snapshot is unpinned.
#[derive(Debug, Args)]
#[command(after_help = format!("Examples:
  heirloom pin latest
  heirloom pin \"Maria's iPhone@2019\"      # the last of the old phone

{SNAPSHOT}"))]
pub struct Pin {
    /// Snapshots to pin
    #[arg(required = true, value_name = "SNAP")]
    pub snapshots: Vec<String>,
}

/// Let pinned snapshots be forgotten again
#[derive(Debug, Args)]
#[command(after_help = format!("Examples:
  heirloom unpin 1f3a9c2e

{SNAPSHOT}"))]
pub struct Unpin {
    /// Snapshots to unpin
    #[arg(required = true, value_name = "SNAP")]
    pub snapshots: Vec<String>,
}

/// Free the room that no snapshot needs
///
/// Deletes data that only forgotten snapshots held, which cannot be undeleted afterwards, and leftovers of runs that
/// were cut off. Packs of which little is needed are written anew. Backups may go on meanwhile: data that one of them
/// may rely on is only marked, and the next prune deletes it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  heirloom prune --dry-run
  heirloom prune
  heirloom prune --max-rewrite 10G      # on a slow disk: at most 10 GB written
  heirloom prune --max-unused 0         # as small as possible
  heirloom prune --now                  # all of it, or fail because somebody is at work

It may be interrupted at any time, and works when the disk is full.")]
pub struct Prune {
    /// Say what would be deleted and written, and do nothing
    #[arg(long, short = 'n')]
    pub dry_run: bool,
    /// Free everything now, or fail with exit code 11 because somebody is at work
    #[arg(long)]
    pub now: bool,
    /// Write at most so much anew, such as 500M or 10G
    #[arg(long, value_name = "SIZE", value_parser = crate::quantity::parse_size)]
    pub max_rewrite: Option<u64>,
    /// How much that no snapshot needs may stay in packs, as a part of all that is needed
    #[arg(long, value_name = "PERCENT", default_value = "4", value_parser = crate::quantity::parse_percent)]
    pub max_unused: f64,
    /// End a session that is surely over, by the first digits of its id, as they were shown
    #[arg(long, value_name = "ID", value_parser = named())]
    pub end_session: Vec<String>,
}

/// Verify the repository
///
/// Without options it verifies that all snapshots, trees and indexes are whole, and that every chunk that they name
/// is there. Files that earlier checks on this computer found whole are not read again while they are there with
/// their lengths; only options that read the data notice bits that rot.
///
/// It names the files of the repository that are damaged, and for every snapshot the files that have lost something.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  heirloom check                           # seconds
  heirloom check --packs                   # are all files there, and whole? needs no password
  heirloom check --packs --same-as /mnt/second/phones    # and is all here that lies there?
  heirloom check --read-data               # decrypt and verify every byte
  heirloom check --max-time 30m            # for a nightly job: longest unverified first
  heirloom check --read-data-subset 5%     # the same by size; 10G does as well
  heirloom check --read-data-subset 2/7    # the second of seven parts, the same on every computer

Exit code 30 says that damage was found, and 3 that there is none, but that a newer version of heirloom is needed to
check all of it. Data that comes out wrong is read a second time, from the disk itself: a problem that says
\"read differently\" is one of cable, memory or controller, and the file is whole.")]
pub struct Check {
    /// Verify that every pack is there that the index names, and that each file has the hash that is its name; needs no
    /// password. Prints a fingerprint, which is the same for two places that hold the same
    #[arg(long, conflicts_with_all = ["read_data", "read_data_subset", "max_time", "full"])]
    pub packs: bool,
    /// With --packs: name what this place of the same repository has and the one that is checked has not
    #[arg(long, value_name = "DIR", requires = "packs", value_parser = typed(), value_hint = clap::ValueHint::DirPath)]
    pub same_as: Option<PathBuf>,
    /// Read, decrypt and verify every byte
    #[arg(long)]
    pub read_data: bool,
    /// Verify a part of the bytes: 5% or 10G, those that were verified longest ago; or 2/7, the second of seven groups
    #[arg(long, value_name = "PART", value_parser = crate::quantity::parse_subset)]
    pub read_data_subset: Option<heirloom_store::Subset>,
    /// Verify bytes, longest ago first, until so much time is over, such as 30m or 2h
    #[arg(long, value_name = "TIME", value_parser = crate::quantity::parse_time)]
    pub max_time: Option<std::time::Duration>,
    /// Look at everything again, whatever earlier checks found
    #[arg(long)]
    pub full: bool,
}

/// Mend what is damaged in the repository
///
/// Reads every pack. Damaged or missing parts are made anew from a second copy or parity, or taken from another
/// repository; what is left of the others is saved, and the index names all that is there. Nothing is deleted: files
/// that are of no more use are moved to `quarantine` in the repository. Files that are still lost are named one by
/// one, and the next backup stores them again if the phone still has them.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  heirloom repair --dry-run                 # says what it would do
  heirloom repair
  heirloom repair --from /mnt/other/phones
  heirloom repair --mark-lost               # when nothing else helps: snapshots with holes

The password of the other repository is the first that is set of HEIRLOOM_FROM_PASSWORD, HEIRLOOM_FROM_PASSWORD_FILE
and HEIRLOOM_FROM_PASSWORD_COMMAND; otherwise it is asked for. Exit code 30 says that something is still damaged.")]
pub struct Repair {
    /// Another repository that may hold what is lost: a copy of this one's folder, or one with the same backups
    #[arg(long, value_name = "REPO", value_parser = typed(), value_hint = clap::ValueHint::DirPath)]
    pub from: Option<PathBuf>,
    /// Replace snapshots that stay incomplete by ones with zeros for what is lost; their warnings name each file
    #[arg(long)]
    pub mark_lost: bool,
    /// Change nothing, and say what would be done
    #[arg(long, short = 'n')]
    pub dry_run: bool,
}

/// Copy snapshots into another repository
///
/// The other repository has a password and keys of its own: another disk, or one for somebody else. Data that is
/// there already is neither read nor sent again, so the same command every week keeps a second disk up to date, and a
/// run that was cut off goes on. Nothing changes in the repository that is copied from. Without SNAP all snapshots
/// are copied. Backups that the phone encrypted are copied without their password.
#[derive(Debug, Args)]
#[command(after_help = format!("Examples:
  heirloom --repo /mnt/second/phones init
  heirloom copy --to /mnt/second/phones
  heirloom copy latest \"Maria's iPhone@2024\" --to /mnt/usb/phones
  heirloom copy --to /mnt/second/phones --udid \"Maria's iPhone\" --dry-run

Password of the other repository: HEIRLOOM_TO_PASSWORD, HEIRLOOM_TO_PASSWORD_FILE, HEIRLOOM_TO_PASSWORD_COMMAND,
or it is asked for.

Exit code 3 says that something is damaged where it was copied from. What can be read is copied, the warnings name what
cannot, and once that is mended the same command puts whole copies in place of those that lack files.

{SNAPSHOT}"))]
pub struct CopySnapshots {
    /// Snapshots; all if none is named
    #[arg(value_name = "SNAP")]
    pub snapshots: Vec<String>,
    /// The folder of the other repository
    #[arg(long, value_name = "REPO", value_parser = typed(), value_hint = clap::ValueHint::DirPath)]
    pub to: PathBuf,
    /// Only those of one device, by its UDID or name
    #[arg(long, value_name = "UDID", value_parser = named())]
    pub udid: Option<String>,
    /// Say what would be copied, and copy nothing
    #[arg(long, short = 'n')]
    pub dry_run: bool,
    /// Copy what the phone had encrypted and is kept as plaintext even into a repository that everybody can read
    #[arg(long)]
    pub plain_is_fine: bool,
}

/// List and change what opens the repository
///
/// A repository opens with any of its passwords, or with its recovery key. Changing them rewrites nothing else, and
/// takes a second. It does not lock out somebody who has an old copy of the folder and a password of that time: that
/// opens the repository as it is now, too.
#[derive(Debug, Args)]
#[command(disable_help_subcommand = true)]
#[command(after_help = "Examples:
  heirloom key list
  heirloom key change                 # asks for the old password, then for the new one
  heirloom key add                    # a password for somebody else
  heirloom key add --label Anna       # and its name for the list
  heirloom key add --label \"nightly job\" --file ~/.nightly
  heirloom key recovery               # new words for the paper; the old ones are void
  heirloom key remove 3f2a

The new password is the first that is set of HEIRLOOM_NEW_PASSWORD, HEIRLOOM_NEW_PASSWORD_FILE
and HEIRLOOM_NEW_PASSWORD_COMMAND; otherwise it is asked for. Is the password lost? Give the 15
words of the recovery key in its place, and `heirloom key change`.")]
pub struct Key {
    /// What to do
    #[command(subcommand)]
    pub action: KeyAction,
}

/// What to do with the keys of a repository.
#[derive(Debug, Subcommand)]
pub enum KeyAction {
    /// List passwords and recovery keys, by ids; never the secrets themselves
    List,
    /// Add a password beside those that there are, or the first one of a repository that has none
    Add {
        /// Its purpose, or whose it is: shown by `heirloom key list`
        #[arg(long, value_name = "TEXT", value_parser = crate::quantity::parse_label)]
        label: Option<String>,
        /// Make a password that nobody could remember, and a file that holds it, for HEIRLOOM_PASSWORD_FILE
        #[arg(long, value_name = "FILE", value_parser = typed(), value_hint = clap::ValueHint::FilePath)]
        file: Option<PathBuf>,
    },
    /// Remove a password or recovery key other than the one given now
    ///
    /// Asks first if it is the only password, the only recovery key, or the only key of its label.
    Remove {
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
        /// Its id, or the first digits of it
        #[arg(value_name = "ID", value_parser = named())]
        key: String,
    },
    /// Set another password in place of the one given now, or the first one of a repository that has none
    Change,
    /// Make a new recovery key in place of the old one
    Recovery {
        /// Do not ask for words of the recovery key to see that it was written down
        #[arg(long)]
        no_verify: bool,
    },
}

/// Show what this computer remembers of the repository, or forget it
///
/// Whenever a repository is opened, heirloom compares it with what it was: its id, its keys, that it needs a
/// password, and the newest snapshot of each device. So nobody who can write to the folder can secretly put another
/// repository, other keys or an older state in its place. After a change for a good reason, by another computer or by
/// hand, --reset accepts it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  heirloom trust
  heirloom trust --reset

Exit code 13 says that what is there now is not what is remembered.")]
pub struct Trust {
    /// Forget what is remembered: what is there is taken for what it is when it is opened the next time
    #[arg(long, conflicts_with = "add")]
    pub reset: bool,
    /// Remember what is there now beside what is remembered, for disks that take turns at one place
    #[arg(long)]
    pub add: bool,
}

/// Find out whether a drive is fit for a repository
///
/// Does what a repository does, in a folder of its own: writes, reads, lists and deletes; looks at names, times,
/// large files and room; and measures speed. The folder is removed afterwards, and nothing else is touched.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  heirloom doctor /mnt/disk
  heirloom --json doctor /mnt/disk | jq .verdict

Exit code 1 says that the drive is not fit.")]
pub struct Doctor {
    /// A folder on the drive
    #[arg(value_name = "DIR", value_parser = typed(), value_hint = clap::ValueHint::DirPath)]
    pub dir: PathBuf,
    /// How many megabytes to write and read for the measurement
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub megabytes: u64,
}

/// Show how it works, with a simulated phone
///
/// Pairs with a phone that does not exist, over a socket, backs it up on three days running, exports one day and
/// compares it byte for byte, and restores the phone to the first. Leaves the repository behind to look around in.
#[cfg(feature = "demo")]
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  heirloom demo
  heirloom demo --dir /tmp/look-around --size 200M")]
pub struct Demo {
    /// Where to leave the repository; must not exist
    #[arg(
        long, value_name = "DIR", default_value = "heirloom-demo", value_parser = typed(),
        value_hint = clap::ValueHint::DirPath
    )]
    pub dir: PathBuf,
    /// How much is on the phone, such as 60M or 2G
    #[arg(long, value_name = "SIZE", default_value = "60M", value_parser = crate::quantity::parse_size)]
    pub size: u64,
}

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  heirloom completions bash > ~/.local/share/bash-completion/completions/heirloom
  heirloom completions zsh > \"${fpath[1]}/_heirloom\"
  heirloom completions fish > ~/.config/fish/completions/heirloom.fish")]
pub struct Completions {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// Write the manual pages
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  heirloom man | man -l -
  heirloom man ~/.local/share/man/man1")]
pub struct Man {
    /// A folder to write a page for each command to; without it all go to stdout
    #[arg(value_name = "DIR", value_parser = typed(), value_hint = clap::ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn global_options_go_before_and_after_the_verb() {
        for line in
            [["heirloom", "--repo", "x", "--json", "snapshots"], ["heirloom", "snapshots", "--json", "--repo", "x"]]
        {
            let arguments = Arguments::try_parse_from(line).unwrap();
            assert!(arguments.global.json);
            assert_eq!(arguments.global.repo.as_deref(), Some("x".as_ref()));
        }
    }

    #[test]
    fn a_password_cannot_be_typed_on_the_command_line() {
        for argument in ["--password=x", "--password-file=x"] {
            assert!(Arguments::try_parse_from(["heirloom", "init", argument]).is_err());
        }
    }
}
