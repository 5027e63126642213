//! Other programs on the computer that a phone is attached to.

use std::{ffi::OsStr, fs, io::Read, path::PathBuf};

use heirloom_sim::{File, Options, WriteStats, write_backup};

use crate::{
    judge::python,
    support::{
        folder::{Folder, folder_at},
        phone::{Attached, FILES_OF_EACH_BACKUP, bytes_at},
        program::Said,
    },
};

pub const PASSWORD: &str = "a backup password";

/// What a phone does that encrypts its backups with [`PASSWORD`].
pub fn encrypting() -> Options {
    Options { password: Some(PASSWORD.to_owned()), ..Options::default() }
}

/// What a phone sent for a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    pub files: u64,
    pub bytes: u64,
}

impl Sent {
    /// The phone sent what is new on it and what it tells of itself each time, but not what the computer had. The ciphertext of a file may
    /// be so many bytes longer.
    #[track_caller]
    pub fn assert_only(self, new: WriteStats, made: &Folder, padding: u64) {
        assert_eq!(self.files, new.written + FILES_OF_EACH_BACKUP);
        let own = ["Manifest.db", "Manifest.plist", "Status.plist", "Status.plist"];
        let own: usize = own.iter().map(|name| bytes_at(made, name).unwrap().len()).sum();
        // Before it says `finished` it says `uploading`.
        let least = new.written_bytes + own as u64 + 1;
        assert!((least..=least + padding * new.written).contains(&self.bytes), "{}, not {least}", self.bytes);
    }
}

/// Running them.
impl Attached {
    /// Runs another program to its end.
    pub fn other(&self, program: impl AsRef<OsStr>, args: &[&str]) -> Said {
        let mut command = self.home.program(program);
        self.home.said(command.args(args).env("USBMUXD_SOCKET_ADDRESS", self.phone.address()))
    }

    /// Runs another program, which must succeed.
    #[track_caller]
    pub fn other_ok(&self, program: &str, args: &[&str]) -> Said {
        let said = self.other(program, args);
        assert_eq!(said.exit, 0, "{program} {args:?}: {said:?}");
        said
    }

    /// Runs a Python module or script with the judges' Python.
    pub fn python(&self, args: &[&str]) -> Said {
        self.other(python().expect("the trial is ignored without it"), args)
    }

    /// What the phone sends while something is done.
    pub fn sent_during(&self, something: impl FnOnce()) -> Sent {
        let before = self.phone.traffic();
        something();
        let after = self.phone.traffic();
        Sent { files: after.files_sent - before.files_sent, bytes: after.bytes_sent - before.bytes_sent }
    }

    /// Nothing was done that a phone need not put up with, except what begins like one of `known`.
    #[track_caller]
    pub fn assert_no_complaints_but(&self, known: &[&str]) {
        let mut complaints = self.phone.complaints();
        complaints.retain(|complaint| !known.iter().any(|known| complaint.starts_with(known)));
        assert!(complaints.is_empty(), "{complaints:#?}");
    }
}

/// The backup folders that they make.
impl Attached {
    /// The path of the folder `name` in the home, which is made if it is not there.
    pub fn folder(&self, name: &str) -> String {
        let folder = self.home.path(name);
        fs::create_dir_all(&folder).unwrap();
        folder.to_str().unwrap().to_owned()
    }

    /// Where a program that was given the folder `name` keeps the backup of the phone.
    pub fn backup_at(&self, name: &str) -> PathBuf {
        self.home.path(name).join(self.phone.udid())
    }

    /// What is there.
    pub fn backup_in(&self, name: &str) -> Folder {
        folder_at(&self.backup_at(name))
    }

    /// Brings the folder `name` up to what is on the phone, without any other program or protocol.
    pub fn write_directly(&self, name: &str) -> WriteStats {
        write_backup(&self.phone.phone(), &self.home.path(name)).unwrap()
    }
}

/// The content of a file of the phone.
pub fn content(file: &File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.open().unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}
