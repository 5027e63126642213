//! Passwords: from the environment or a prompt, never from the command line.

use std::{
    env,
    ffi::OsString,
    fs,
    io::{self, Read},
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::{
    failure::{Exit, Failure, Result},
    location, question,
    report::can_ask,
};

const PASSWORD_MAX_LEN: u64 = 64 << 10;

/// A password that the environment may give, by its variables: `NAME` for itself, `NAME_FILE` for a file that begins
/// with it.
#[derive(Debug, Clone, Copy)]
pub struct Password {
    pub variable: &'static str,
    /// Whether `NAME_COMMAND` may print it.
    pub takes_command: bool,
    /// How the program ends if it cannot be had.
    pub exit: Exit,
}

impl Password {
    /// Of the repository.
    pub const REPOSITORY: Password =
        Password { variable: "HEIRLOOM_PASSWORD", takes_command: true, exit: Exit::WrongPassword };
    /// Of another repository, from which things are taken.
    pub const FROM: Password =
        Password { variable: "HEIRLOOM_FROM_PASSWORD", takes_command: true, exit: Exit::WrongPassword };
    /// Of the repository that snapshots are copied to.
    pub const TO: Password =
        Password { variable: "HEIRLOOM_TO_PASSWORD", takes_command: true, exit: Exit::WrongPassword };
    /// By which the repository shall open from now on.
    pub const NEW: Password =
        Password { variable: "HEIRLOOM_NEW_PASSWORD", takes_command: true, exit: Exit::WrongPassword };
    /// By which the phone encrypts its backups.
    pub const BACKUP: Password =
        Password { variable: "HEIRLOOM_BACKUP_PASSWORD", takes_command: false, exit: Exit::WrongBackupPassword };
    /// By which the phone shall encrypt its backups from now on.
    pub const NEW_BACKUP: Password =
        Password { variable: "HEIRLOOM_NEW_BACKUP_PASSWORD", takes_command: false, exit: Exit::WrongBackupPassword };

    /// Whether the environment gives one. It is not looked at.
    pub fn is_given(self) -> bool {
        let Password { variable, takes_command, .. } = self;
        let is_set = |ending: &str| value(&format!("{variable}{ending}")).is_some();
        is_set("") || is_set("_FILE") || takes_command && is_set("_COMMAND")
    }

    /// The password that the environment gives. A variable that is empty counts as not set.
    pub fn given(self) -> Result<Option<String>> {
        let Password { variable, takes_command, .. } = self;
        if let Some(password) = value(variable) {
            let password = password.into_string().map_err(|_| self.failure(format!("{variable} is not UTF-8")))?;
            return Ok(Some(without_marks(&password).to_owned()));
        }
        if let Some(file) = value(&format!("{variable}_FILE")) {
            return self.in_file(location::expand(file)).map(Some);
        }
        match value(&format!("{variable}_COMMAND")).filter(|_| takes_command) {
            Some(command) => self.printed_by(command).map(Some),
            None => Ok(None),
        }
    }

    /// Whether the environment names a password, without looking whether it can be had.
    pub fn is_named(self) -> bool {
        let named = |suffix: &str| value(&format!("{}{suffix}", self.variable)).is_some();
        named("") || named("_FILE") || self.takes_command && named("_COMMAND")
    }

    /// Asks on the terminal, without showing what is typed.
    pub fn ask(self, prompt: &str) -> Result<String> {
        question::secret(prompt)?.map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted | io::ErrorKind::UnexpectedEof => Failure::interrupted(),
            _ => self.failure(format!("cannot ask for the password: {error}")),
        })
    }

    /// A password that is to be set, from the environment or asked for twice. `None` if it is not given, and there is
    /// nobody to ask.
    pub fn chosen(self, prompt: &str) -> Result<Option<String>> {
        match self.given()? {
            None if can_ask() => self.ask_twice(prompt).map(Some),
            given => Ok(given),
        }
    }

    /// Asks twice for a password that is to be set.
    pub fn ask_twice(self, prompt: &str) -> Result<String> {
        let password = self.ask(prompt)?;
        if !password.is_empty() && self.ask("The same again: ")? != password {
            return Err(Failure::failed("the two passwords are not the same"));
        }
        Ok(password)
    }

    /// Why nothing can be done: the password is not given, and there is nobody to ask.
    pub fn wanted(self, message: &str) -> Failure {
        let variable = self.variable;
        self.failure(message).hint(format!("set {variable}_FILE or {variable}"))
    }

    fn in_file(self, file: PathBuf) -> Result<String> {
        let mut bytes = Vec::new();
        let read = fs::File::open(&file).and_then(|open| open.take(PASSWORD_MAX_LEN).read_to_end(&mut bytes));
        read.map_err(|error| self.failure(format!("cannot read the password from {}: {error}", file.display())))?;
        self.first_line(bytes, &file.display().to_string())
    }

    fn printed_by(self, command: OsString) -> Result<String> {
        let variable = format!("{}_COMMAND", self.variable);
        let mut shell = if cfg!(windows) { Command::new("cmd") } else { Command::new("sh") };
        let output = shell
            .arg(if cfg!(windows) { "/C" } else { "-c" })
            .arg(command)
            .stdin(Stdio::inherit())
            .stderr(Stdio::inherit())
            .output();
        let output = output.map_err(|error| self.failure(format!("cannot run {variable}: {error}")))?;
        if !output.status.success() {
            return Err(self.failure(format!("{variable} failed: {}", output.status)));
        }
        self.first_line(output.stdout, &variable)
    }

    fn first_line(self, bytes: Vec<u8>, source: &str) -> Result<String> {
        let text = decode(bytes).ok_or_else(|| {
            self.failure(format!("{source}: the password is not text in UTF-8"))
                .hint("save the file as UTF-8; editors offer it as an encoding")
        })?;
        match text.lines().next().map(without_marks) {
            Some(line) if !line.is_empty() => Ok(line.to_owned()),
            _ => Err(self.failure(format!("{source}: the first line, which is the password, is empty"))),
        }
    }

    fn failure(self, message: impl Into<String>) -> Failure {
        Failure::new(self.exit, message)
    }
}

/// The text of a file, as editors and PowerShell write it: UTF-8, or UTF-16 with its mark or without.
fn decode(bytes: Vec<u8>) -> Option<String> {
    let utf16 = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
        bytes.len().is_multiple_of(2).then(|| char::decode_utf16(units).collect::<Result<_, _>>().ok()).flatten()
    };
    let text: String = match &*bytes {
        [0xff, 0xfe, text @ ..] => utf16(text, u16::from_le_bytes)?,
        [0xfe, 0xff, text @ ..] => utf16(text, u16::from_be_bytes)?,
        // No password has zero bytes, but in UTF-16 all letters of English have one.
        [first, 0, ..] if *first != 0 => utf16(&bytes, u16::from_le_bytes)?,
        [0, second, ..] if *second != 0 => utf16(&bytes, u16::from_be_bytes)?,
        _ => String::from_utf8(bytes).ok()?,
    };
    (!text.contains('\0')).then_some(text)
}

/// A line without the mark that some editors begin a file with, and without the end of a line of Windows.
fn without_marks(line: &str) -> &str {
    line.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n'])
}

fn value(variable: &str) -> Option<OsString> {
    env::var_os(variable).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_the_first_line_whole() {
        let line = |text: &str| Password::BACKUP.first_line(text.as_bytes().to_vec(), "file").ok();
        assert_eq!(line("secret\n"), Some("secret".into()));
        assert_eq!(line("secret\r\nnote"), Some("secret".into()));
        assert_eq!(line("  with spaces "), Some("  with spaces ".into()));
        assert_eq!(line(""), None);
        assert_eq!(line("\nsecret"), None);
        let failure = Password::BACKUP.first_line(vec![0xff], "file").unwrap_err();
        assert_eq!(failure.exit, Exit::WrongBackupPassword);
    }

    /// password-file-marks
    #[test]
    fn marks_of_editors_are_no_part_of_a_password() {
        let utf16 = |text: &str, unit: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(unit).collect::<Vec<u8>>();
        for bytes in [
            b"\xef\xbb\xbfs\xc3\xa9cret\r\n".to_vec(),
            utf16("\u{feff}s\u{e9}cret\r\nnote", u16::to_le_bytes),
            utf16("\u{feff}s\u{e9}cret\r\nnote", u16::to_be_bytes),
            utf16("s\u{e9}cret\r\n", u16::to_le_bytes),
            utf16("s\u{e9}cret", u16::to_be_bytes),
            "s\u{e9}cret\r".into(),
        ] {
            assert_eq!(Password::BACKUP.first_line(bytes, "file").unwrap(), "s\u{e9}cret");
        }
        assert_eq!(without_marks("secret\r"), "secret");
        for bytes in [b"\xff\xfea".to_vec(), b"\xff\xfe\x00\xd8".to_vec(), b"secret\0".to_vec(), b"s\xe9cret".to_vec()]
        {
            assert!(Password::BACKUP.first_line(bytes, "file").unwrap_err().hint.unwrap().contains("UTF-8"));
        }
    }
}
