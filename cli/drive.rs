//! What a folder's file system and the drive below it can do, tried out in a folder that holds nothing else.

use std::{
    fs::{self, File, FileTimes},
    io::{self, ErrorKind, Read, Seek, SeekFrom, Write},
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use heirloom_store::{Finding, LocalStorage, Storage};

use crate::report::{duration, size};

/// The first length that FAT32 refuses, and one byte more.
pub const LARGE: u64 = (4 << 30) + 1;
/// A path of a repository is shorter than this, and so is each name in a backup folder.
const LONG_NAME: usize = 255;
const BLOCK: usize = 4 << 20;
/// Where direct reads must begin, in memory as on any drive.
const ALIGNMENT: usize = 4096;
const SMALL_FILE: usize = 4096;
/// A first backup of a phone of this size is what slow drives are judged by.
const PHONE: u64 = 100_000_000_000;
const SLOW: u64 = 10_000_000;
const SLOW_SMALL_FILE: Duration = Duration::from_millis(100);

/// The name of the file system that holds `dir`, where the system tells.
pub fn file_system(dir: &Path) -> Option<String> {
    let dir = fs::canonicalize(dir).ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    file_system_in(&mounts, &dir)
}

/// The same by the lines of `mountinfo`: of the mounts above `dir` the deepest, of several in one place the last.
fn file_system_in(mounts: &str, dir: &Path) -> Option<String> {
    let mount = |line: &str| {
        let (place, kind) = line.split_once(" - ")?;
        let place = unescape(place.split(' ').nth(4)?);
        let depth = Path::new(&place).components().count();
        dir.starts_with(&place).then(|| (depth, kind.split(' ').next().unwrap_or_default().to_owned()))
    };
    mounts.lines().filter_map(mount).max_by_key(|(depth, _)| *depth).map(|(_, kind)| kind)
}

/// Blanks, tabs, line ends and backslashes are octal in `mountinfo`.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .into_iter()
        .fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

/// What is known of a file system by its name.
pub fn about_file_system(name: Option<&str>) -> Finding {
    const WHAT: &str = "file system";
    match name {
        None => Finding::fit(WHAT, "the system does not tell which"),
        Some(name @ ("tmpfs" | "ramfs")) => {
            Finding::note(WHAT, format!("{name} is in memory: what is here is gone when the computer restarts"))
        }
        Some(name @ ("nfs" | "nfs4" | "cifs" | "smb3" | "fuse.sshfs" | "9p")) => Finding::note(
            WHAT,
            format!(
                "{name} is a share of another computer: what is lost there in a power cut cannot be told from here"
            ),
        ),
        Some(name) => Finding::fit(WHAT, name),
    }
}

/// Whether files and folders can be brought to the disk for sure.
pub fn syncing(folder: &Path) -> Finding {
    const WHAT: &str = "sync at once";
    let synced = File::create(folder.join("synced")).and_then(|mut file| {
        file.write_all(b"synced")?;
        file.sync_all()
    });
    match (synced, sync_folder(folder)) {
        (Ok(()), Ok(())) => Finding::fit(WHAT, "files and folders"),
        (Err(error), _) | (_, Err(error)) if !is_unsupported(&error) => Finding::unfit(WHAT, error.to_string()),
        (Ok(()), Err(_)) => Finding::note(
            WHAT,
            "files, but not folders: a power cut may take back what was written last. The next backup writes it again",
        ),
        (Err(_), _) => Finding::note(
            WHAT,
            "the file system does not do it: a power cut may damage what was written last. `heirloom check` finds it, and the next backup writes it again",
        ),
    }
}

/// As heirloom itself takes it, which then does without: macOS has numbers of its own for it.
fn is_unsupported(error: &io::Error) -> bool {
    const OF_MACOS: [i32; 2] = [25, 45];
    matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::InvalidInput)
        || cfg!(target_os = "macos") && error.raw_os_error().is_some_and(|code| OF_MACOS.contains(&code))
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

/// What names can be.
pub fn names(folder: &Path) -> Vec<Finding> {
    let case = File::create(folder.join("case")).map(|_| folder.join("CASE").exists());
    let case = match case {
        Ok(false) => Finding::fit("upper and lower case", "are told apart"),
        Ok(true) => {
            Finding::note("upper and lower case", "are one name here. Neither a repository nor a backup folder minds")
        }
        Err(error) => Finding::unfit("upper and lower case", error.to_string()),
    };
    let long = "n".repeat(LONG_NAME);
    let written = fs::write(folder.join(&long), b"long");
    let is_listed = || {
        let mut names = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.file_name()));
        names.try_fold(false, |found, name| Ok::<_, io::Error>(found || name? == long.as_str()))
    };
    let long = match written.and_then(|()| is_listed()) {
        Ok(true) => Finding::fit("long names", format!("of {LONG_NAME} letters")),
        _ => Finding::note(
            "long names",
            format!("of {LONG_NAME} letters are refused. Those of heirloom are at most 64 long"),
        ),
    };
    vec![case, long]
}

/// How exactly the time of a file is kept.
pub fn times(folder: &Path) -> Finding {
    const WHAT: &str = "times";
    let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_600_000_001_123_456_789);
    let kept = File::create(folder.join("time")).and_then(|file| {
        file.set_times(FileTimes::new().set_modified(time))?;
        file.sync_all().or_else(|error| if is_unsupported(&error) { Ok(()) } else { Err(error) })?;
        fs::metadata(folder.join("time"))?.modified()
    });
    let Ok(kept) = kept else {
        return Finding::note(WHAT, "of files cannot be set: exports here have the time of the export");
    };
    let off = kept.duration_since(time).unwrap_or_else(|early| early.duration());
    match off {
        Duration::ZERO => Finding::fit(WHAT, "are exact"),
        _ if off < Duration::from_millis(1) => Finding::fit(WHAT, "are exact to a millisecond"),
        _ if off < Duration::from_secs(3) => Finding::note(
            WHAT,
            "are kept to a second or two. It does not matter but to exports, whose files lose the rest",
        ),
        _ => Finding::note(WHAT, "of files come out as others: exports here have wrong ones"),
    }
}

/// Whether a file of `len` bytes can be kept.
pub fn large_file(folder: &Path, len: u64, file_system: Option<&str>, free: Option<u64>) -> Finding {
    const WHAT: &str = "large files";
    // These write every byte of a file that is made longer.
    if matches!(file_system, Some("exfat" | "hfsplus" | "fuseblk")) {
        return Finding::fit(WHAT, "known to be kept by this file system, and not tried");
    }
    match make_large(&folder.join("large"), len) {
        Ok(true) => Finding::fit(WHAT, "over 4 GiB"),
        Ok(false) => Finding::unfit(WHAT, "what was written far behind in a file did not come out"),
        Err(error) if error.kind() == ErrorKind::FileTooLarge => Finding::note(
            WHAT,
            "files over 4 GiB cannot be kept here; heirloom's own files are at most 2 GiB, so a repository works, exports of long films do not",
        ),
        Err(_) if free.is_some_and(|free| free < len) => Finding::fit(WHAT, "not tried: there is no room for one"),
        Err(error) => Finding::note(WHAT, format!("files over 4 GiB cannot be kept here: {error}")),
    }
}

/// Makes a file that is nearly all hole.
fn make_large(path: &Path, len: u64) -> io::Result<bool> {
    let mut file = File::options().read(true).write(true).create_new(true).open(path)?;
    let made = (|| {
        file.set_len(len)?;
        file.seek(SeekFrom::Start(len - 1))?;
        file.write_all(&[7])?;
        file.seek(SeekFrom::Start(len - 1))?;
        let mut last = Vec::new();
        file.read_to_end(&mut last)?;
        Ok(last == [7] && file.metadata()?.len() == len)
    })();
    drop(file);
    fs::remove_file(path)?;
    made
}

/// How fast a drive is, in bytes a second and the time of a small file.
#[derive(Debug, Default)]
pub struct Speed {
    pub write: u64,
    pub read: u64,
    pub small_file: Duration,
}

/// Writes `len` bytes and reads them back; `step` is told how many are done of twice as many, and may stop it.
pub fn bulk(
    folder: &Path,
    len: u64,
    speed: &mut Speed,
    step: &dyn Fn(u64) -> crate::failure::Result<()>,
) -> crate::failure::Result<Vec<Finding>> {
    let path = folder.join("bulk");
    let (write, read) = match timed_bulk(&path, len, step) {
        Ok(timed) => timed,
        Err(Bulk::Stopped(failure)) => return Err(failure),
        Err(Bulk::Differs(at)) => {
            return Ok(vec![Finding::unfit("speed", format!("what was read at {} is not what was written", size(at)))]);
        }
        Err(Bulk::Failed(error)) => return Ok(vec![Finding::unfit("speed", error.to_string())]),
    };
    let rate = |time: Duration| (len as f64 / time.as_secs_f64().max(1e-6)) as u64;
    (speed.write, speed.read) = (rate(write), rate(read.time));
    let whole = Duration::from_secs(PHONE / speed.write.max(1));
    let detail = format!("{} in {}", size(len), duration(write));
    let judged = if speed.write < SLOW {
        Finding::note(
            "write speed",
            format!("{}/s is slow: {} of a phone take {}", size(speed.write), size(PHONE), duration(whole)),
        )
    } else {
        Finding::fit("write speed", format!("{}/s: {detail}", size(speed.write)))
    };
    let from = if read.is_direct { "" } else { ", perhaps from memory" };
    Ok(vec![judged, Finding::fit("read speed", format!("{}/s{from}", size(speed.read)))])
}

enum Bulk {
    Stopped(crate::failure::Failure),
    /// At this byte.
    Differs(u64),
    Failed(io::Error),
}

struct TimedRead {
    time: Duration,
    /// Whether it came from the drive for sure.
    is_direct: bool,
}

fn timed_bulk(
    path: &Path,
    len: u64,
    step: &dyn Fn(u64) -> crate::failure::Result<()>,
) -> Result<(Duration, TimedRead), Bulk> {
    let blocks = len / BLOCK as u64;
    let pattern = noise();
    let started = Instant::now();
    let mut file = File::create(path).map_err(Bulk::Failed)?;
    let mut block = pattern.clone();
    for number in 0..blocks {
        mark(&mut block, &pattern, number);
        file.write_all(&block).map_err(Bulk::Failed)?;
        step(number * BLOCK as u64).map_err(Bulk::Stopped)?;
    }
    file.sync_all().or_else(|error| if is_unsupported(&error) { Ok(()) } else { Err(error) }).map_err(Bulk::Failed)?;
    drop(file);
    let write = started.elapsed();

    let mut memory = vec![0; BLOCK + ALIGNMENT];
    let start = memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
    let into = &mut memory[start..start + BLOCK];
    let started = Instant::now();
    let mut is_direct = true;
    let mut file = open_direct(path).or_else(|_| {
        is_direct = false;
        File::open(path)
    });
    for number in 0..blocks {
        let file = file.as_mut().map_err(|error| Bulk::Failed(io::Error::new(error.kind(), error.to_string())))?;
        // Some file systems open a file for direct reading, and refuse to read.
        match file.read_exact(into) {
            Err(error) if is_direct && number == 0 && is_unsupported(&error) => {
                is_direct = false;
                *file = File::open(path).map_err(Bulk::Failed)?;
                file.read_exact(into).map_err(Bulk::Failed)?;
            }
            other => other.map_err(Bulk::Failed)?,
        }
        mark(&mut block, &pattern, number);
        if *into != *block {
            return Err(Bulk::Differs(number * BLOCK as u64));
        }
        step((blocks + number) * BLOCK as u64).map_err(Bulk::Stopped)?;
    }
    Ok((write, TimedRead { time: started.elapsed(), is_direct }))
}

#[cfg(target_os = "linux")]
fn open_direct(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().read(true).custom_flags(libc::O_DIRECT).open(path)
}

#[cfg(not(target_os = "linux"))]
fn open_direct(_: &Path) -> io::Result<File> {
    Err(ErrorKind::Unsupported.into())
}

/// Bytes that do not compress.
fn noise() -> Vec<u8> {
    let mut state = Instant::now().elapsed().as_nanos() as u64 | 1;
    let mut next = || {
        // xorshift64*
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes()
    };
    (0..BLOCK / 8).flat_map(|_| next()).collect()
}

/// Makes a block another than those of other numbers, in each of its pages, so that no drive keeps two of them once.
fn mark(block: &mut [u8], pattern: &[u8], number: u64) {
    for (page, original) in block.chunks_mut(ALIGNMENT).zip(pattern.chunks(ALIGNMENT)) {
        let word: [u8; 8] = original[..8].try_into().expect("a page has eight bytes");
        page[..8].copy_from_slice(&(u64::from_le_bytes(word) ^ number.wrapping_add(1)).to_le_bytes());
    }
}

/// Writes so many small files, each synced, as a repository's records are.
pub fn small_files(
    folder: &Path,
    number: u32,
    speed: &mut Speed,
    step: &dyn Fn() -> crate::failure::Result<()>,
) -> crate::failure::Result<Finding> {
    const WHAT: &str = "small files";
    let storage = LocalStorage::new(&folder.join("small"));
    let started = Instant::now();
    for n in 0..number {
        step()?;
        let written =
            storage.put(&format!("snapshots/{n:064x}"), &vec![n as u8; SMALL_FILE]).and_then(|()| storage.sync());
        if let Err(error) = written {
            return Ok(Finding::unfit(WHAT, error.to_string()));
        }
    }
    speed.small_file = started.elapsed() / number.max(1);
    let detail = format!("{number} synced in {}", duration(started.elapsed()));
    match storage.list("snapshots") {
        Ok(listed) if listed.len() != number as usize => {
            Ok(Finding::unfit(WHAT, format!("of {number} that were written {} are listed", listed.len())))
        }
        Err(error) => Ok(Finding::unfit(WHAT, error.to_string())),
        Ok(_) if speed.small_file > SLOW_SMALL_FILE => {
            Ok(Finding::note(WHAT, format!("{detail}, which is slow: a backup ends some seconds later for it")))
        }
        Ok(_) => Ok(Finding::fit(WHAT, detail)),
    }
}

#[cfg(test)]
mod tests {
    use heirloom_store::Fitness;

    use super::*;

    #[test]
    fn the_deepest_mount_above_a_folder_is_the_one() {
        let mounts = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 8:17 / /mnt/my\\040disk rw,nosuid shared:7 - vfat /dev/sdb1 rw,fmask=0022
41 22 8:17 / /mnt rw - xfs /dev/sdc1 rw
42 22 0:5 / /mnt/over rw - tmpfs none rw
43 22 0:6 / /mnt/over rw master:2 - exfat /dev/sdd1 rw
broken line";
        let of = |dir: &str| file_system_in(mounts, Path::new(dir));
        assert_eq!(of("/mnt/my disk/phones").as_deref(), Some("vfat"));
        assert_eq!(of("/mnt/my diskette").as_deref(), Some("xfs"));
        assert_eq!(of("/home").as_deref(), Some("ext4"));
        assert_eq!(of("/mnt/over").as_deref(), Some("exfat"));
        assert_eq!(file_system_in("", Path::new("/")), None);
    }

    #[test]
    fn a_hole_takes_no_room_and_what_is_behind_it_comes_out() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(large_file(dir.path(), 10_000_001, None, None).fitness, Fitness::Fit);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let missing = dir.path().join("missing");
        assert_eq!(large_file(&missing, 10, None, Some(1)).fitness, Fitness::Fit, "there is no room to try");
        assert_eq!(large_file(&missing, 10, None, Some(100)).fitness, Fitness::Note);
    }

    #[test]
    fn every_block_is_another_and_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut speed = Speed::default();
        let findings = bulk(dir.path(), 3 * BLOCK as u64, &mut speed, &|_| Ok(())).unwrap_or_default();
        assert_eq!(findings.len(), 2);
        assert!(speed.write > 0 && speed.read > 0);
        let bytes = fs::read(dir.path().join("bulk")).unwrap();
        let mut pages: Vec<&[u8]> = bytes.chunks(ALIGNMENT).collect();
        pages.sort_unstable();
        pages.dedup();
        assert_eq!(pages.len(), bytes.len() / ALIGNMENT);
        let stopped = bulk(dir.path(), 3 * BLOCK as u64, &mut speed, &|done| {
            if done > 0 { Err(crate::failure::Failure::interrupted()) } else { Ok(()) }
        });
        assert!(stopped.is_err());
    }

    #[test]
    fn what_is_known_by_name_is_said() {
        assert_eq!(about_file_system(Some("ext4")).fitness, Fitness::Fit);
        assert_eq!(about_file_system(Some("cifs")).fitness, Fitness::Note);
        assert_eq!(about_file_system(Some("tmpfs")).fitness, Fitness::Note);
    }
}
