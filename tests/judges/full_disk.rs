//! A real disk that is full: what an import says of it, and whether forget and prune free it when not a byte is left.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use crate::{
    images::{FileSystem, Image},
    judge::{Judge, trials},
    support::{
        folder::folder_at,
        noise,
        program::{Home, Said, SmallBackup, assert_same, only_child},
    },
};

trials! {
    forget_and_prune_free_it_to_the_last_byte: &[Judge::Mounts(FileSystem::Ext4)],
}

/// A photo as it is cut into chunks of 4 MiB, none of which compresses or is another.
fn photo(seed: u64, chunks: u64) -> Vec<u8> {
    let noise = noise(seed, (4 << 20) - 8);
    let chunk = |number: u64| [noise.as_slice(), &number.to_le_bytes()].concat();
    let head = b"\xff\xd8\xff".to_vec();
    std::iter::once(head).chain((0..chunks).map(chunk)).collect::<Vec<Vec<u8>>>().concat()
}

/// A folder of photos, each by its seed and how many chunks it has.
fn backup(home: &Home, day: u64, photos: &[(u64, u64)]) -> PathBuf {
    let photos: Vec<(String, Vec<u8>)> =
        photos.iter().map(|&(seed, chunks)| (format!("Media/DCIM/IMG_{seed:04}.JPG"), photo(seed, chunks))).collect();
    let files: Vec<(&str, &str, &[u8])> =
        photos.iter().map(|(path, bytes)| ("CameraRollDomain", path.as_str(), bytes.as_slice())).collect();
    let folder = home.path(&format!("day{day}"));
    SmallBackup { date: &format!("2024-05-{day:02}T12:00:00Z"), files: &files, ..SmallBackup::default() }
        .write(&folder);
    folder
}

/// What the system says of a disk: bytes in use, and bytes that are free.
fn room(disk: &Path) -> (u64, u64) {
    let said = Command::new("df").args(["-B1", "--output=used,avail"]).arg(disk).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    let mut numbers = said.lines().nth(1).unwrap().split_whitespace().map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// Fills a disk to the last block.
fn fill(disk: &Path) {
    let mut file = File::create(disk.join("filler")).unwrap();
    for block in [1 << 20, 4096, 1] {
        while file.write_all(&vec![0xa5; block]).is_ok() {}
    }
    file.sync_all().ok();
}

struct Disk<'h> {
    home: &'h Home,
    image: Image,
    repository: String,
    started: Instant,
}

impl Disk<'_> {
    fn run(&self, args: &[&str]) -> Said {
        let said = self.home.run(&[&["--repo", &self.repository], args].concat());
        let (used, free) = room(&self.image.mounted_at);
        let seconds = self.started.elapsed().as_secs_f64();
        let words: Vec<&str> =
            args.iter().map(|arg| arg.rsplit('/').next().unwrap_or(arg)).take_while(|arg| *arg != "--to").collect();
        println!("{seconds:>5.1} s  {:<18} exit {:<2} {used:>11} used {free:>11} free", words.join(" "), said.exit);
        said
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> Said {
        let said = self.run(args);
        assert_eq!(said.exit, 0, "{said:?}");
        said
    }

    #[track_caller]
    fn assert_exact(&self, snapshot: &str, folder: &Path) {
        let to = tempfile::tempdir_in(self.home.path("")).unwrap();
        self.ok(&["export", snapshot, "--to", to.path().to_str().unwrap()]);
        assert_same(&folder_at(&only_child(to.path())), &folder_at(folder));
    }
}

fn forget_and_prune_free_it_to_the_last_byte() {
    let (dir, home) = (tempfile::tempdir().unwrap(), Home::empty());
    let image = Image::mount(FileSystem::Ext4, dir.path()).unwrap();
    let repository = image.mounted_at.join("repo").to_str().unwrap().to_owned();
    let [first, second, too_large, last] = [
        backup(&home, 1, &[(1, 10), (2, 3)]),
        backup(&home, 2, &[(2, 3), (3, 3)]),
        backup(&home, 3, &[(2, 3), (4, 50)]),
        backup(&home, 4, &[(2, 3), (3, 3), (5, 8)]),
    ];
    let disk = Disk { home: &home, image, repository, started: Instant::now() };
    disk.ok(&["init", "--no-password"]);
    disk.ok(&["import", first.to_str().unwrap()]);
    disk.ok(&["import", second.to_str().unwrap()]);
    let full = disk.run(&["import", too_large.to_str().unwrap()]);
    full.assert_failed(1, &["No space left on device", "make room and run it again"]);
    fill(&disk.image.mounted_at);
    assert_eq!(room(&disk.image.mounted_at).1, 0, "the disk is not full");
    // All that reads goes on.
    disk.ok(&["check", "--read-data"]);
    disk.assert_exact("latest~1", &first);

    disk.ok(&["forget", "latest~1"]);
    disk.ok(&["prune"]);
    let free = room(&disk.image.mounted_at).1;
    assert!(free > 100_000_000, "only {free} bytes are free");
    disk.ok(&["check", "--read-data"]);
    disk.ok(&["import", last.to_str().unwrap()]);
    disk.ok(&["check", "--read-data"]);
    disk.assert_exact("latest~1", &second);
    disk.assert_exact("latest", &last);
    let reserve = fs::metadata(Path::new(&disk.repository).join("reserve")).unwrap().len();
    println!("{reserve} bytes are in reserve again");
}
