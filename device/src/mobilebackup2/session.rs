//! A backup or a restore with what surrounds it on the phone: the notifications that tell it that a computer syncs, and
//! the lock that keeps other computers and apps away meanwhile.

use std::{thread, time::Duration};

use super::{BackupRequest, Client, Control, Event, HostDir, RestoreRequest, Summary, Warning};
use crate::{Error, Result, Stream};

pub(super) const PROMPT_SHOWN: &str = "com.apple.LocalAuthentication.ui.presented";
pub(super) const PROMPT_HIDDEN: &str = "com.apple.LocalAuthentication.ui.dismissed";
pub(super) const CANCEL_REQUEST: &str = "com.apple.itunes-client.syncCancelRequest";

/// What notification_proxy is asked to relay.
pub const OBSERVED: [&str; 6] = [
    CANCEL_REQUEST,
    "com.apple.itunes-client.syncSuspendRequest",
    "com.apple.itunes-client.syncResumeRequest",
    "com.apple.mobile.backup.domain_changed",
    PROMPT_SHOWN,
    PROMPT_HIDDEN,
];

const SYNC_WILL_START: &str = "com.apple.itunes-mobdev.syncWillStart";
const SYNC_LOCK_REQUEST: &str = "com.apple.itunes-mobdev.syncLockRequest";
const SYNC_DID_START: &str = "com.apple.itunes-mobdev.syncDidStart";
const SYNC_DID_FINISH: &str = "com.apple.itunes-mobdev.syncDidFinish";

const LOCK_ATTEMPTS: u32 = 50;
const LOCK_INTERVAL: Duration = Duration::from_millis(200);

/// Where a restore leaves, for the phone, what it needs to install the apps again.
const RESTORE_APPLICATIONS: &str = "/iTunesRestore/RestoreApplications.plist";

/// `com.apple.mobile.notification_proxy`, as far as a session needs it.
pub trait Notifications {
    /// Has notifications of this name relayed.
    ///
    /// # Errors
    /// What ends the connection.
    fn observe(&mut self, name: &str) -> Result<()>;

    /// Posts a notification on the phone.
    ///
    /// # Errors
    /// What ends the connection.
    fn post(&mut self, name: &str) -> Result<()>;

    /// The name of a notification that was relayed, if one waits. Does not block.
    fn poll(&mut self) -> Option<String>;
}

/// `com.apple.afc`, as far as a session needs it.
pub trait DeviceFiles {
    /// Takes the exclusive lock of `/com.apple.itunes.lock_sync`, opening it for reading and writing if it is not open;
    /// false while somebody else has it.
    ///
    /// # Errors
    /// What AFC says.
    fn try_lock(&mut self) -> Result<bool>;

    /// Releases the lock, if it is held, and closes its file, if it is open.
    ///
    /// # Errors
    /// What AFC says.
    fn unlock(&mut self) -> Result<()>;

    /// Makes or replaces a file, and its parents.
    ///
    /// # Errors
    /// What AFC says.
    fn write(&mut self, path: &str, content: &[u8]) -> Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// What AFC says.
    fn remove(&mut self, path: &str) -> Result<()>;
}

/// A phone that is ready for one backup or restore, and locked for others. However it ends, also when it is dropped, the
/// lock is released and the phone is told.
pub struct BackupSession<'s> {
    notifications: &'s mut dyn Notifications,
    files: &'s mut dyn DeviceFiles,
    client: Option<Client>,
}

impl<'s> BackupSession<'s> {
    /// Observes notifications, connects to `com.apple.mobilebackup2` (to be started with the escrow bag), greets it, and
    /// takes the lock, for which it waits ten seconds. A phone that has no such lock for it is backed up without.
    ///
    /// # Errors
    /// [`Error::SyncLocked`] if another computer or app holds the lock; what the services say.
    pub fn begin(
        notifications: &'s mut dyn Notifications,
        files: &'s mut dyn DeviceFiles,
        connect: impl FnOnce() -> Result<Box<dyn Stream>>,
        control: &mut Control<'_>,
    ) -> Result<Self> {
        for name in OBSERVED {
            notifications.observe(name)?;
        }
        let client = Client::connect(connect()?, control)?;
        let mut session = BackupSession { notifications, files, client: Some(client) };
        session.notifications.post(SYNC_WILL_START)?;
        if session.lock(control)? {
            session.notifications.post(SYNC_DID_START)?;
        }
        Ok(session)
    }

    /// [`Client::back_up`] under the lock.
    ///
    /// # Errors
    /// As there.
    pub fn back_up(
        mut self,
        host: &mut dyn HostDir,
        request: &BackupRequest<'_>,
        control: &mut Control<'_>,
    ) -> Result<Summary> {
        self.with_client(control, |client, control| client.back_up(host, request, control))
    }

    /// [`Client::restore`] under the lock. `applications` is what
    /// [`restore_applications`](super::info_plist::restore_applications) makes; the phone installs these apps afterwards.
    /// Where they cannot be left on the phone, the restore goes on with a warning.
    ///
    /// # Errors
    /// As there.
    pub fn restore(
        mut self,
        host: &mut dyn HostDir,
        request: &RestoreRequest<'_>,
        applications: Option<&[u8]>,
        control: &mut Control<'_>,
    ) -> Result<Summary> {
        if let Some(applications) = applications {
            let written = self.files.write(RESTORE_APPLICATIONS, applications);
            if let Err(error) = written {
                // Half a list is worse than none.
                let _ = self.files.remove(RESTORE_APPLICATIONS);
                (control.events)(Event::Warning(Warning::NoApplications { reason: error.to_string() }));
            }
        }
        let restored = self.with_client(control, |client, control| client.restore(host, request, control));
        if restored.is_err() && applications.is_some() {
            // The restore's own error is the one to tell.
            let _ = self.files.remove(RESTORE_APPLICATIONS);
        }
        restored
    }

    /// Whether it has the lock. Only one that somebody else has is waited for.
    fn lock(&mut self, control: &mut Control<'_>) -> Result<bool> {
        self.notifications.post(SYNC_LOCK_REQUEST)?;
        for _ in 0..LOCK_ATTEMPTS {
            if control.is_cancelled() {
                return Err(Error::Cancelled);
            }
            match self.files.try_lock() {
                Ok(true) => return Ok(true),
                Ok(false) => thread::sleep(LOCK_INTERVAL),
                Err(error @ Error::Afc { .. }) => {
                    (control.events)(Event::Warning(Warning::NoSyncLock { reason: error.to_string() }));
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::SyncLocked)
    }

    /// Calls `operation` with the notifications of this session before those of the caller.
    fn with_client(
        &mut self,
        control: &mut Control<'_>,
        operation: impl FnOnce(&mut Client, &mut Control<'_>) -> Result<Summary>,
    ) -> Result<Summary> {
        let BackupSession { notifications, client: Some(client), .. } = self else {
            return Err(Error::Disconnected);
        };
        let mut poll = || notifications.poll().or_else(|| (control.notifications)());
        let mut control = Control {
            cancel: control.cancel,
            events: &mut *control.events,
            notifications: &mut poll,
            timeouts: control.timeouts,
        };
        operation(client, &mut control)
    }
}

impl Drop for BackupSession<'_> {
    fn drop(&mut self) {
        // Whatever fails here, the other steps are still owed to the phone.
        let _ = self.files.unlock();
        let _ = self.notifications.post(SYNC_DID_FINISH);
        if let Some(client) = self.client.take() {
            client.disconnect();
        }
    }
}
