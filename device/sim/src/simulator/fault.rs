//! What can be made to go wrong.

use std::time::Duration;

/// Something that goes wrong in the next backups or restores, until it is taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The connection breaks once this much was sent or received.
    Drop(After),
    /// The phone falls silent once this much was sent or received, and neither sends nor reads until the fault is taken back.
    Stall(After),
    /// The phone falls silent once this much was sent or received, neither sends nor reads for so long, and goes on.
    Pause(After, Duration),
    /// A message claims a length of nearly 4 GiB and none of it comes.
    GarbageMessageLength,
    /// The name of an uploaded file claims nearly 4 GiB.
    GarbageNameLength,
    /// A block of an uploaded file claims nearly 4 GiB.
    GarbageBlockLength,
    /// A message is not a property list.
    GarbageMessage,
    /// A length of zero where a block's is due. The file ends there.
    ZeroBlock,
    /// A message of this kind names a path outside the backup, or another device's. The refusal is awaited.
    Escape(PathIn, String),
    /// The phone is locked: error 208.
    Locked,
    /// The phone finds the computer's drive too small whatever it tells: purge, then error 105.
    NoSpace,
    /// The phone wants room for this many bytes, as one that is full of photos does.
    WantsRoom(u64),
    /// The owner cancels on the phone in the middle: a notification, then an error.
    Cancel,
    /// A message of no known name in the middle. Any answer but success is taken.
    UnknownMessage,
    /// `DLMessageDisconnect` in the middle.
    Disconnect,
    /// In the middle the phone lists a folder that is not there.
    MissingFolder,
    /// In the middle the phone makes, lists and removes a folder whose path it writes with slashes before and after it.
    Slashes,
    /// The names that files have on the phone are not UTF-8.
    OddNames,
    /// The backup has a Manifest.mbdx in the place of Manifest.db, and nothing that names its files.
    NoManifestDb,
    /// In a restore the phone makes a folder that exists, removes what is not there, and then tries to write, make and
    /// remove in earnest.
    WritesInRestore,
    /// A restore asks for the backup's files in the folder of the phone that is restored.
    TargetFolder,
    /// Every so manieth file breaks off after half its bytes with the phone's error text.
    FileError(u64),
    /// Every so manieth file cannot be read at all.
    MissingFile(u64),
    /// Every so manieth file grows while it is sent: there is more than its metadata tells.
    ChangedFile(u64),
    /// Every so manieth encrypted file is some bytes longer than whole blocks of the cipher.
    OddLength(u64),
    /// The operation ends with this error and text.
    FinalError(u32, String),
    /// The operation ends without an error, but the backup's Status.plist never says `finished`.
    NeverFinished,
    /// TLS with a certificate that is not the pair record's.
    Impostor,
    /// TLS with another certificate for the phone's own key.
    OtherCertificate,
    /// The phone has forgotten the computer, which it finds when TLS begins: it closes the connection.
    ForgottenInTls,
    /// Services cannot be started: `ServiceLimit`, this often.
    ServiceLimit(u32),
    /// After so many requests for a service, the session of the next one is ended instead of answered, once.
    SessionLost(u32),
    /// The connection is closed instead of answering a request to pair, once.
    PairingLost,
    /// The list of apps comes after so long.
    SlowApps(Duration),
    /// springboardservices gives so many icons, and then closes the connection.
    SpringboardCloses(u32),
    /// AFC does not let the file of the sync lock be opened.
    NoSyncLock,
    /// AFC lets nothing be written.
    ReadOnlyMedia,
    /// The muxer lists a device and tells of an event of which nothing can be made, before those that are right.
    OddMuxer,
}

/// When a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// So many bytes of contents.
    Bytes(u64),
    /// So many files.
    Files(u64),
}

/// The kind of message that names a hostile path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum PathIn {
    Upload,
    Download,
    Contents,
    CreateDirectory,
    MoveFrom,
    MoveTo,
    Remove,
    CopyFrom,
    CopyTo,
}

impl PathIn {
    /// All kinds.
    pub const ALL: [PathIn; 9] = [
        PathIn::Upload,
        PathIn::Download,
        PathIn::Contents,
        PathIn::CreateDirectory,
        PathIn::MoveFrom,
        PathIn::MoveTo,
        PathIn::Remove,
        PathIn::CopyFrom,
        PathIn::CopyTo,
    ];
}
