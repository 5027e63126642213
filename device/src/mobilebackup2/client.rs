//! The service itself: greeting the phone, asking it for one thing, and answering it until it is done.

use std::{
    io::{self, Write},
    time::Duration,
};

use plist::Dictionary;

use super::{
    BackupRequest, Control, DeviceMessage, Event, HostDir, HostPath, Phase, Refusal, RestoreRequest, Tally, Warning,
    files::{self, Fault, path_in, shortened},
    link::{Link, Wire, wire},
    message::{self, Payload, Response, Status},
    outcome, request, transfer,
};
use crate::{Error, Result, Stream, backup, frame};

/// The newest version of DeviceLink that is known: that of iOS 14 and later.
const KNOWN_MAJOR: u64 = 400;
const STATUS_PLIST_BYTES: usize = 1 << 20;
/// What a phone reads of a backup before it restores any file.
const PROPERTIES: [&str; 4] = ["Status.plist", "Manifest.plist", "Manifest.db", "Info.plist"];

/// A connection to `com.apple.mobilebackup2` whose greeting is done. It serves one request; after an error it is of no
/// more use.
pub struct Client {
    wire: Wire,
}

/// What a whole operation has transferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// From the phone.
    pub received: Tally,
    /// To the phone.
    pub sent: Tally,
}

impl Client {
    /// Greets the phone on a new connection to the service.
    ///
    /// # Errors
    /// [`Error::Protocol`] if there is no common version, and what ends the connection.
    pub fn connect(stream: Box<dyn Stream>, control: &mut Control<'_>) -> Result<Client> {
        let mut client = Client { wire: wire(stream) };
        let mut link = Link::for_greeting(&mut client.wire, control)?;
        let DeviceMessage::VersionExchange { major, .. } = link.receive()? else {
            return Err(Error::protocol("no version of DeviceLink at the beginning"));
        };
        if major > KNOWN_MAJOR {
            link.warn(Warning::NewerVersion { major });
        }
        link.send(&message::version_ok(major))?;
        let DeviceMessage::DeviceReady = link.receive()? else {
            return Err(Error::protocol(format!("version {major} of DeviceLink was not taken up")));
        };
        link.send(&message::hello())?;
        match link.receive()? {
            DeviceMessage::Process(Response { error_code: 0, .. }) => Ok(client),
            DeviceMessage::Process(Response { error_code: 1, .. }) => {
                Err(Error::protocol("the phone speaks neither version 2.0 nor 2.1 of mobilebackup2"))
            }
            other => Err(Error::protocol(format!("the greeting was answered by {other:?}"))),
        }
    }

    /// Backs up the phone into `host`, which holds what an earlier backup of it left, or nothing.
    ///
    /// The backup is whole only if this returns `Ok`: the phone said so, Status.plist says so, and nothing failed here.
    ///
    /// # Errors
    /// [`Error::MobileBackup`] if the phone ends it with an error, [`Error::Host`] if `host` failed, [`Error::Unfinished`],
    /// [`Error::Cancelled`], and what ends the connection; [`Error::Disconnected`] is a backup cut off.
    pub fn back_up(
        &mut self,
        host: &mut dyn HostDir,
        request: &BackupRequest<'_>,
        control: &mut Control<'_>,
    ) -> Result<Summary> {
        let info_plist = HostPath::new("Info.plist").map_err(|error| Error::Host(io::Error::other(error)))?;
        host.write_file(&info_plist, &mut &request.info_plist[..], "").map_err(Error::Host)?;
        let summary = self.run(Kind::Backup, host, &[request.udid], request.message(), control)?;
        check_finished(host)?;
        Ok(summary)
    }

    /// Restores the phone from `host`. Success means that the phone has taken everything; it completes the restore by
    /// itself after it has restarted.
    ///
    /// # Errors
    /// As [`back_up`](Client::back_up).
    pub fn restore(
        &mut self,
        host: &mut dyn HostDir,
        request: &RestoreRequest<'_>,
        control: &mut Control<'_>,
    ) -> Result<Summary> {
        let folders = [request.source_udid, request.target_udid];
        self.run(Kind::Restore, host, &folders, request.message(), control)
    }

    /// Switches backup encryption on (no `old`), off (no `new`), or changes the password. The phone asks for its passcode.
    ///
    /// # Errors
    /// [`Error::MobileBackup`] with [`Meaning::WrongPassword`](super::Meaning::WrongPassword) if `old` is wrong; otherwise
    /// as [`back_up`](Client::back_up).
    pub fn change_password(
        &mut self,
        udid: &str,
        old: Option<&str>,
        new: Option<&str>,
        control: &mut Control<'_>,
    ) -> Result<()> {
        let message = request::change_password(udid, old, new);
        self.run(Kind::ChangePassword, &mut NoFolder, &[udid], message, control).map(drop)
    }

    /// Takes leave of the phone. Without it the phone only finds the connection closed.
    pub fn disconnect(mut self) {
        // The operation is over: there is nothing left that a failure could harm.
        let _ = self.wire.get_mut().set_timeout(Some(Duration::from_secs(1)));
        let _ = frame::write_plist(self.wire.get_mut(), &message::disconnect());
    }

    fn run(
        &mut self,
        kind: Kind,
        host: &mut dyn HostDir,
        folders: &[&str],
        request: Dictionary,
        control: &mut Control<'_>,
    ) -> Result<Summary> {
        let link = Link::new(&mut self.wire, control)?;
        let mut operation = Operation {
            link,
            host,
            folders,
            kind,
            phase: None,
            uploaded: false,
            fault: None,
            reported_free: 0,
            needed_bytes: None,
        };
        let response = operation.serve(request);
        operation.conclude(response)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Backup,
    Restore,
    ChangePassword,
}

/// One request, and all that the phone asks while it meets it.
struct Operation<'o, 'c, 'a> {
    link: Link<'c, 'a>,
    host: &'o mut dyn HostDir,
    /// The names that the phone has for the folder: of the phone that the backup is of, and of the one that is written.
    folders: &'o [&'o str],
    kind: Kind,
    phase: Option<Phase>,
    uploaded: bool,
    /// The first change that failed of a folder that a backup fills: whatever the phone says, the folder is not what it
    /// believes.
    fault: Option<Fault>,
    reported_free: u64,
    needed_bytes: Option<u64>,
}

impl Operation<'_, '_, '_> {
    /// Sends the request and answers the phone until its final response.
    fn serve(&mut self, request: Dictionary) -> Result<Response> {
        self.enter(Phase::Preparing);
        self.link.send(&message::process(request))?;
        loop {
            let message = self.link.receive()?;
            self.follow(&message);
            match message {
                DeviceMessage::Process(response) => return Ok(response),
                DeviceMessage::Disconnect => return Err(Error::Disconnected),
                message => {
                    let status = self.answer(message)?;
                    self.link.send(&status.into_value())?;
                }
            }
        }
    }

    fn conclude(mut self, response: Result<Response>) -> Result<Summary> {
        let is_cancelled = self.link.hear_notifications();
        match response {
            // What failed here is why the phone gave up.
            Ok(_) | Err(Error::Disconnected | Error::Timeout) if self.fault.is_some() => {
                Err(self.fault.take().map_or(Error::Disconnected, Fault::into_error))
            }
            Err(error) => Err(error),
            Ok(Response { error_code: 0, .. }) => Ok(Summary { received: self.link.received, sent: self.link.sent }),
            // The phone ends an operation that its owner cancels with an error of no meaning of its own.
            Ok(_) if is_cancelled => Err(Error::Cancelled),
            Ok(Response { error_code: code, description, .. }) => {
                let needed_bytes = self.needed_bytes.filter(|_| code == 105);
                Err(Error::MobileBackup(Refusal { code, description, needed_bytes }))
            }
        }
    }

    fn enter(&mut self, phase: Phase) {
        if self.phase.replace(phase) != Some(phase) {
            self.link.emit(Event::Phase(phase));
        }
    }

    /// Tells the phase from what the phone asks for.
    fn follow(&mut self, message: &DeviceMessage) {
        match (self.kind, message) {
            (Kind::Backup, DeviceMessage::UploadFiles { .. }) => {
                self.uploaded = true;
                self.enter(Phase::Transferring);
            }
            (
                Kind::Backup,
                DeviceMessage::MoveItems { .. }
                | DeviceMessage::RemoveItems { .. }
                | DeviceMessage::DownloadFiles { .. },
            ) if self.uploaded => self.enter(Phase::Finishing),
            (Kind::Restore, DeviceMessage::DownloadFiles { paths, .. }) => {
                let is_property = |path: &String| PROPERTIES.iter().any(|name| path.ends_with(name));
                if !paths.iter().all(is_property) {
                    self.enter(Phase::Transferring);
                }
            }
            _ => {}
        }
    }

    /// Does what the phone asks; fails only where the connection does.
    fn answer(&mut self, message: DeviceMessage) -> Result<Status> {
        let empty = Payload::Dictionary(Dictionary::new());
        Ok(match message {
            DeviceMessage::DownloadFiles { paths, .. } => {
                transfer::send_files(&mut self.link, self.host, self.folders, &paths)?
            }
            DeviceMessage::UploadFiles { .. } => {
                let fault = transfer::receive_files(&mut self.link, self.host, self.folders)?;
                self.changed("write", fault, empty)
            }
            DeviceMessage::GetFreeDiskSpace => self.free_space(),
            DeviceMessage::PurgeDiskSpace { bytes } => self.purge(bytes),
            DeviceMessage::ContentsOfDirectory { path } => self.list(&path),
            DeviceMessage::CreateDirectory { path } => {
                let made = path_in(self.folders, &path).and_then(|path| Ok(self.host.create_dir(&path)?));
                self.changed("make", made.err(), Payload::Absent)
            }
            DeviceMessage::MoveItems { pairs, .. } => {
                let mut fault = None;
                for (from, to) in pairs {
                    fault = fault.or(self.relocate(&from, &to, files::move_item).err());
                }
                self.changed("move", fault, empty)
            }
            DeviceMessage::CopyItem { from, to } => {
                let fault = self.relocate(&from, &to, files::copy_item).err();
                self.changed("copy", fault, empty)
            }
            DeviceMessage::RemoveItems { paths, .. } => {
                let mut fault = None;
                for path in paths {
                    let removed = path_in(self.folders, &path).and_then(|path| Ok(files::remove(self.host, &path)?));
                    fault = fault.or(removed.err());
                }
                self.changed("remove", fault, empty)
            }
            DeviceMessage::Unknown { name } => self.unknown(&name),
            DeviceMessage::VersionExchange { .. } => self.unknown("DLMessageVersionExchange"),
            DeviceMessage::DeviceReady => self.unknown("DLMessageDeviceReady"),
            DeviceMessage::Process(_) | DeviceMessage::Disconnect => return Err(Error::protocol("a second end")),
        })
    }

    /// The answer after an attempt to change the folder. A source that is missing is the phone's mistake, not a failure.
    /// Nor does a change fail the operation if the folder is only read.
    fn changed(&mut self, change: &'static str, fault: Option<Fault>, payload: Payload) -> Status {
        let Some(fault) = fault else { return Status::ok(payload) };
        let status = Status { code: fault.code(), text: Some(fault.text()), payload };
        match self.kind {
            _ if fault.is_missing() => {}
            Kind::Backup => drop(self.fault.get_or_insert(fault)),
            Kind::Restore | Kind::ChangePassword => {
                self.link.warn(Warning::RefusedChange { change, reason: fault.text() });
            }
        }
        status
    }

    fn relocate(
        &mut self,
        from: &str,
        to: &str,
        action: fn(&mut dyn HostDir, &HostPath, &HostPath) -> io::Result<()>,
    ) -> Result<(), Fault> {
        let (from, to) = (path_in(self.folders, from)?, path_in(self.folders, to)?);
        let done = action(self.host, &from, &to).map_err(Fault::from);
        if done.as_ref().is_err_and(Fault::is_missing) {
            self.link.warn(Warning::NothingToMove { path: from });
        }
        done
    }

    fn list(&mut self, sent: &str) -> Status {
        let listed = path_in(self.folders, sent).and_then(|path| Ok(files::list(self.host, &path)?));
        let fault = match listed {
            Ok(payload) => return Status::ok(payload),
            Err(fault) => fault,
        };
        let payload = Payload::Dictionary(Dictionary::new());
        // Phones ask what is in folders that nobody has made yet.
        if fault.is_missing() {
            return Status::ok(payload);
        }
        let status = Status { code: fault.code(), text: Some(fault.text()), payload };
        // A phone that takes a directory for empty sends everything again: that is slow, but right.
        match fault {
            Fault::Path { path, why } => self.link.warn(Warning::RefusedPath { path, why }),
            fault => self.link.warn(Warning::UnreadableHere { path: shortened(sent), reason: fault.text() }),
        }
        status
    }

    fn free_space(&mut self) -> Status {
        match self.host.free_bytes() {
            Ok(bytes) => {
                self.reported_free = bytes;
                Status::ok(Payload::Bytes(bytes))
            }
            Err(error) => {
                let fault = Fault::Host(error);
                Status { code: fault.code(), text: Some(fault.text()), payload: Payload::Bytes(0) }
            }
        }
    }

    /// The phone goes on by itself after any answer: it asks for the free space again.
    fn purge(&mut self, bytes: u64) -> Status {
        self.needed_bytes = Some(outcome::needed_bytes(bytes, self.reported_free));
        let purged = self.host.purge(bytes).unwrap_or(0);
        if purged >= bytes {
            return Status::ok(Payload::Bytes(purged));
        }
        let text = Some("DLPurgeDiskSpace failed to purge".to_owned());
        Status { code: -1, text, payload: Payload::Bytes(purged) }
    }

    fn unknown(&mut self, name: &str) -> Status {
        self.link.warn(Warning::UnknownMessage { name: shortened(name) });
        let payload = Payload::Dictionary(Dictionary::new());
        Status { code: -1, text: Some("unknown message".to_owned()), payload }
    }
}

/// Reads Status.plist back: the phone writes it last, and only there does it say that the backup is whole.
fn check_finished(host: &mut dyn HostDir) -> Result<()> {
    let mut bytes = Bounded(Vec::new());
    let path = HostPath::new("Status.plist").map_err(|error| Error::Host(io::Error::other(error)))?;
    match host.read_file(&path, &mut bytes) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Error::Unfinished { state: None }),
        Err(error) => return Err(Error::Host(error)),
    }
    match backup::Status::parse(&bytes.0) {
        Ok(status) if status.is_finished() => Ok(()),
        Ok(status) => Err(Error::Unfinished { state: status.snapshot_state }),
        Err(_) => Err(Error::Unfinished { state: None }),
    }
}

/// A small file in memory.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > STATUS_PLIST_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The folder where an operation has none: a phone that asks for files all the same finds nothing.
struct NoFolder;

impl NoFolder {
    fn nothing<T>() -> io::Result<T> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn refused<T>() -> io::Result<T> {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

impl HostDir for NoFolder {
    fn list(&mut self, _: &HostPath) -> io::Result<Vec<super::DirEntry>> {
        Self::nothing()
    }

    fn stat(&mut self, _: &HostPath) -> io::Result<super::Stat> {
        Self::nothing()
    }

    fn read_file(&mut self, _: &HostPath, _: &mut dyn Write) -> io::Result<()> {
        Self::nothing()
    }

    fn write_file(&mut self, _: &HostPath, _: &mut dyn io::Read, _: &str) -> io::Result<()> {
        Self::refused()
    }

    fn create_dir(&mut self, _: &HostPath) -> io::Result<()> {
        Self::refused()
    }

    fn rename(&mut self, _: &HostPath, _: &HostPath) -> io::Result<()> {
        Self::nothing()
    }

    fn copy(&mut self, _: &HostPath, _: &HostPath) -> io::Result<()> {
        Self::nothing()
    }

    fn remove(&mut self, _: &HostPath) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&mut self) -> io::Result<u64> {
        Ok(0)
    }
}
