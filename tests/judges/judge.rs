//! What a test needs beyond this project, and how it is found.
//!
//! The harness of `cargo test` cannot ignore a test once it runs; that of this binary can. So whatever a computer may lack is asked for here.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use libtest_mimic::{Completion, Trial};

use crate::images::{FileSystem, Image};

/// A program, package, file system or folder that was not made here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judge {
    /// The programs of libimobiledevice-utils.
    Libimobiledevice,
    /// What `tests/vectors/read_repo.py` needs.
    SecondReader,
    Pymobiledevice3,
    IphoneBackupDecrypt,
    /// A file system that this computer can mount from an image.
    Mounts(FileSystem),
    /// `script` of util-linux, which runs a program on a terminal.
    Terminal,
    /// The remains of a real phone's backup.
    RealBackup,
}

impl Judge {
    /// Why it cannot be asked; none if it can.
    fn missing(self) -> Option<String> {
        let (is_there, cure) = match self {
            Judge::Mounts(file_system) => {
                let dir = tempfile::tempdir().unwrap();
                let mounted = Image::mount(file_system, dir.path());
                return mounted.err().map(|why| format!("this computer cannot mount {file_system:?}: {why}"));
            }
            Judge::Terminal => (cfg!(target_os = "linux") && is_in_path("script"), "apt install bsdutils"),
            Judge::RealBackup => {
                return (!real_backup().is_dir()).then(|| format!("{} is not there", real_backup().display()));
            }
            Judge::Libimobiledevice => (is_in_path("idevicebackup2"), "apt install libimobiledevice-utils"),
            Judge::SecondReader => (has_module("blake3"), "pip install -r tests/vectors/requirements.txt"),
            Judge::Pymobiledevice3 => (has_module("pymobiledevice3"), "pip install -r tests/judges/requirements.txt"),
            Judge::IphoneBackupDecrypt => {
                (has_module("iphone_backup_decrypt"), "pip install -r tests/judges/requirements.txt")
            }
        };
        let place = if cure.starts_with("pip") { "python3 -m venv target/python; target/python/bin/" } else { "" };
        (!is_there).then(|| format!("{self:?} is not on this computer: {place}{cure}"))
    }
}

/// The trials of a module: its functions, each with the judges that it needs.
macro_rules! trials {
    ($($test:ident: $judges:expr,)*) => {
        pub fn trials() -> Vec<libtest_mimic::Trial> {
            vec![$(crate::judge::trial(concat!(module_path!(), "::", stringify!($test)), $judges, $test)),*]
        }
    };
}
pub(crate) use trials;

/// A test that is ignored if one of its judges is missing.
pub fn trial(path: &str, judges: &'static [Judge], test: fn()) -> Trial {
    Trial::ignorable_test(path.trim_start_matches("judges::"), move || {
        if let Some(reason) = judges.iter().find_map(|judge| judge.missing()) {
            return Ok(Completion::ignored_with(reason));
        }
        test();
        Ok(Completion::Completed)
    })
}

/// Where what is left of a real phone's backup lies, beside this project.
pub fn real_backup() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/ios_backup")
}

/// The Python in `target/python`, or the one that `HEIRLOOM_TEST_PYTHON` names.
pub fn python() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let made_for_tests = ["bin/python", "Scripts/python.exe"].map(|python| root.join("target/python").join(python));
    let found = made_for_tests.into_iter().find(|python| python.exists());
    found.or_else(|| env::var_os("HEIRLOOM_TEST_PYTHON").map(PathBuf::from))
}

fn is_in_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn has_module(name: &str) -> bool {
    let ask = format!("import importlib.util, sys; sys.exit(importlib.util.find_spec('{name}') is None)");
    let asked = python().map(|python| Command::new(python).args(["-c", &ask]).stderr(Stdio::null()).status());
    matches!(asked, Some(Ok(status)) if status.success())
}
