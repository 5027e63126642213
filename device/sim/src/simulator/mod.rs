//! A simulated iPhone on a socket that speaks as usbmuxd does: pairing, sessions in TLS, and the services of a backup.
//!
//! Each connection has a thread. What is known of the phone, its pairings and what was seen on the way is [`Shared`].

mod afc;
mod backup_agent;
mod certificate;
mod connection;
mod fault;
mod lockdown;
mod pairing;
mod services;
mod short_key;
#[cfg(test)]
mod tests;
mod usbmuxd;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
#[cfg(unix)]
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use plist::Dictionary;

use crate::file::Location;
use crate::phone::Phone;
use backup_agent::Keybag;
use connection::Socket;
use pairing::{DeviceKey, PairedHost};

pub use backup_agent::RestoredFile;
pub use fault::{After, Fault, PathIn};

/// How the phone is attached and how its owner behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the socket is. Default: TCP on a free port of 127.0.0.1.
    pub listen: Listen,
    /// What the owner does about "Trust this computer?".
    pub trust: Trust,
    /// Whether it is in reach by Wi-Fi too.
    pub network: bool,
    /// Its `ProductVersion`, if not the usual one. Before 10 there is no TLS that can be agreed on.
    pub version: Option<&'static str>,
    /// Whether its key has 1024 bits, as in old phones.
    pub short_key: bool,
    /// How long the owner takes to enter the passcode for a backup; none if it is never entered.
    pub passcode: Option<Duration>,
    /// The backup password, if backups are encrypted.
    pub password: Option<String>,
    /// Rounds of the second and, times a hundred, the first key derivation of a backup password. Phones use 10 000.
    pub rounds: u32,
    /// Whether Find My is on, which forbids a restore.
    pub find_my: bool,
    /// How long the phone waits for the computer within an operation.
    pub patience: Duration,
    /// How long lockdownd waits for the next request of a session before it closes the connection.
    pub idle: Duration,
    /// Bytes of a block of an uploaded file.
    pub block: usize,
    /// How long it is away after a restore.
    pub reboot: Duration,
}

/// Where the simulator listens.
#[derive(Clone, Debug)]
pub enum Listen {
    /// A free port of 127.0.0.1.
    Tcp,
    /// A socket at this path, removed at the end.
    #[cfg(unix)]
    Unix(PathBuf),
}

/// From the number of a phone's cable to that of its Wi-Fi.
const NETWORK: u32 = 500;

/// What the owner does about "Trust this computer?".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Accepts at once.
    Accept,
    /// Accepts after so many answers that the dialogue is open.
    Pending(u32),
    /// Accepts, whereupon the muxer pairs by itself, as usbmuxd does. Another request raises a second dialogue.
    ByMuxer,
    /// Refuses.
    Deny,
    /// Has locked the phone, so that there is no dialogue.
    Locked,
    /// The connection is not one to pair over.
    Prohibited,
}

/// What went over the wire in backups and restores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Files sent to the computer, Manifest.db and property lists included.
    pub files_sent: u64,
    /// Bytes of those.
    pub bytes_sent: u64,
    /// Files received from the computer.
    pub files_received: u64,
    /// Bytes of those.
    pub bytes_received: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            listen: Listen::Tcp,
            trust: Trust::Accept,
            network: false,
            version: None,
            short_key: false,
            passcode: Some(Duration::ZERO),
            password: None,
            rounds: 10,
            find_my: false,
            patience: Duration::from_secs(120),
            idle: Duration::from_secs(10),
            block: 128 << 10,
            reboot: Duration::from_millis(100),
        }
    }
}

/// A phone attached to a socket, which it may share with others. Dropping it detaches it; with the last one, the socket's
/// threads end.
pub struct Simulator {
    shared: Arc<Shared>,
    muxer: Arc<Muxer>,
}

/// The socket, and the thread that accepts its connections.
struct Muxer {
    address: Address,
    hub: Arc<Hub>,
    acceptor: Option<JoinHandle<()>>,
}

/// What the threads of a socket know.
pub(crate) struct Hub {
    phones: Vec<Arc<Shared>>,
    stopped: AtomicBool,
}

enum Address {
    Tcp(SocketAddr),
    #[cfg(unix)]
    Unix(PathBuf),
}

/// What all threads of a simulator know.
pub(crate) struct Shared {
    options: Options,
    phone: RwLock<Phone>,
    udid: String,
    values: Dictionary,
    system_buid: String,
    key: DeviceKey,
    impostor: DeviceKey,
    state: Mutex<State>,
    afc: Mutex<afc::Tree>,
    stopped: AtomicBool,
}

/// What changes.
#[derive(Default)]
pub(crate) struct State {
    /// The muxer's number for the cable, while it is plugged in.
    device_id: Option<u32>,
    /// The muxer's number for the way by Wi-Fi, while there is one.
    network_id: Option<u32>,
    devices: u32,
    trust_polls: u32,
    trust: Option<Trust>,
    locked: bool,
    fault: Option<Fault>,
    /// Hosts that the phone trusts, by HostID.
    paired: HashMap<String, PairedHost>,
    /// What the muxer keeps for the computer's programs.
    pair_records: BTreeMap<String, Vec<u8>>,
    set_values: BTreeMap<(String, String), plist::Value>,
    services: HashMap<u16, StartedService>,
    connections: HashMap<u64, Socket>,
    next: u64,
    listeners: Vec<Sender<usbmuxd::Event>>,
    observers: Vec<(Sender<String>, Vec<String>)>,
    posted: Vec<String>,
    /// Whether a computer has asked for notification_proxy.
    can_post: bool,
    complaints: Vec<String>,
    traffic: Traffic,
    keybag: Option<Keybag>,
    restored: Option<BTreeMap<Location, RestoredFile>>,
}

/// A service that waits for its connection.
#[derive(Clone)]
pub(crate) struct StartedService {
    name: String,
    host_id: String,
    has_escrow: bool,
}

/// The simulator's own controls.
impl Simulator {
    /// Attaches `phone` to a socket.
    ///
    /// Fails if the socket cannot be made.
    pub fn start(phone: Phone, options: Options) -> io::Result<Simulator> {
        let mut simulators = Simulator::start_many(vec![phone], options)?;
        simulators.pop().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Attaches several phones of the same habits to one socket, and gives the controls of each.
    ///
    /// Fails if the socket cannot be made.
    pub fn start_many(phones: Vec<Phone>, options: Options) -> io::Result<Vec<Simulator>> {
        let numbered = phones.into_iter().zip((0..).step_by(1000));
        let phones = numbered.map(|(phone, number)| Shared::new(phone, number, options.clone()).map(Arc::new));
        let hub = Arc::new(Hub { phones: phones.collect::<io::Result<_>>()?, stopped: AtomicBool::new(false) });
        let (address, acceptor) = listen(&hub, &options.listen)?;
        let muxer = Arc::new(Muxer { address, hub: Arc::clone(&hub), acceptor: Some(acceptor) });
        let of = |shared: &Arc<Shared>| Simulator { shared: Arc::clone(shared), muxer: Arc::clone(&muxer) };
        Ok(hub.phones.iter().map(of).collect())
    }

    /// Where it listens, in the form of the variable `USBMUXD_SOCKET_ADDRESS`.
    pub fn address(&self) -> String {
        match &self.muxer.address {
            Address::Tcp(address) => address.to_string(),
            #[cfg(unix)]
            Address::Unix(path) => format!("UNIX:{}", path.display()),
        }
    }

    /// The phone's UDID.
    pub fn udid(&self) -> &str {
        &self.shared.udid
    }

    /// The phone. Its days do not go on while this is held.
    pub fn phone(&self) -> RwLockReadGuard<'_, Phone> {
        self.shared.phone()
    }

    /// A day of use, once no backup is under way.
    pub fn live_one_day(&self) -> io::Result<()> {
        self.shared.phone_mut().live_one_day()
    }

    /// Makes something go wrong from now on, or nothing more.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.shared.state().fault = fault;
    }

    /// The fault that is set, if it has not struck for the last time.
    pub fn fault(&self) -> Option<Fault> {
        self.shared.fault()
    }

    /// What the owner does from now on about "Trust this computer?".
    pub fn set_trust(&self, trust: Trust) {
        let mut state = self.shared.state();
        (state.trust, state.trust_polls) = (Some(trust), 0);
    }

    /// Locks or unlocks the screen.
    pub fn set_locked(&self, locked: bool) {
        self.shared.state().locked = locked;
    }

    /// Forgets every computer it trusts, as Reset Location & Privacy does. The computers' records stay.
    pub fn forget_pairings(&self) {
        self.shared.state().paired.clear();
    }

    /// Pulls the cable; what is in reach by Wi-Fi stays so.
    pub fn unplug(&self) {
        self.shared.unplug();
    }

    /// Takes it out of reach.
    pub fn detach(&self) {
        self.shared.detach();
    }

    /// Plugs the cable in again, within reach of its Wi-Fi if it has any.
    pub fn attach(&self) {
        self.shared.attach();
    }

    /// Whether a computer holds the lock by which computers and apps take turns.
    pub fn is_sync_locked(&self) -> bool {
        self.shared.afc().is_locked_for_sync()
    }

    /// What the computer did that a phone need not put up with, in the order it came. The gravest also ended the operation.
    pub fn complaints(&self) -> Vec<String> {
        self.shared.state().complaints.clone()
    }

    /// What went over the wire since the start.
    pub fn traffic(&self) -> Traffic {
        self.shared.state().traffic
    }

    /// The notifications that computers posted, in order.
    pub fn posted(&self) -> Vec<String> {
        self.shared.state().posted.clone()
    }

    /// Whether backups are encrypted.
    pub fn is_encrypting(&self) -> bool {
        self.shared.state().keybag.is_some()
    }

    /// What the last restore put on the phone; none if there was none. The phone itself stays as it is.
    pub fn restored(&self) -> Option<BTreeMap<Location, RestoredFile>> {
        self.shared.state().restored.clone()
    }

    /// The file at `path` of the phone's media partition, as AFC shows it.
    pub fn media_file(&self, path: &str) -> Option<Vec<u8>> {
        self.shared.afc().file(path)
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.shared.detach();
        self.shared.state().connections.values().for_each(Socket::close);
    }
}

impl Drop for Muxer {
    fn drop(&mut self) {
        self.hub.stopped.store(true, Ordering::SeqCst);
        // Wakes the acceptor; if it cannot be reached it has ended.
        match &self.address {
            Address::Tcp(address) => drop(TcpStream::connect(address)),
            #[cfg(unix)]
            Address::Unix(path) => drop(UnixStream::connect(path)),
        }
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        #[cfg(unix)]
        if let Address::Unix(path) = &self.address {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn listen(hub: &Arc<Hub>, place: &Listen) -> io::Result<(Address, JoinHandle<()>)> {
    let owned = Arc::clone(hub);
    match place {
        Listen::Tcp => {
            let listener = TcpListener::bind(("127.0.0.1", 0))?;
            let address = Address::Tcp(listener.local_addr()?);
            let next = move || {
                let (socket, _) = listener.accept()?;
                socket.set_nodelay(true)?;
                Ok(Socket::Tcp(socket))
            };
            Ok((address, thread::Builder::new().spawn(move || accept(&owned, next))?))
        }
        #[cfg(unix)]
        Listen::Unix(path) => {
            let listener = UnixListener::bind(path)?;
            let next = move || listener.accept().map(|(socket, _)| Socket::Unix(socket));
            Ok((Address::Unix(path.clone()), thread::Builder::new().spawn(move || accept(&owned, next))?))
        }
    }
}

/// Serves each connection in a thread, and waits for all of them at the end.
fn accept(hub: &Arc<Hub>, next: impl Fn() -> io::Result<Socket>) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    loop {
        let socket = next();
        if hub.stopped.load(Ordering::SeqCst) {
            break;
        }
        let Ok(socket) = socket else {
            thread::sleep(Duration::from_millis(10));
            continue;
        };
        let hub = Arc::clone(hub);
        threads.retain(|thread| !thread.is_finished());
        // Broken connections are no news to the phone.
        threads.extend(thread::Builder::new().spawn(move || drop(usbmuxd::serve(&hub, socket))));
    }
    for thread in threads {
        let _ = thread.join();
    }
}

impl State {
    /// Ends what goes over these ways to the phone, and tells that they are gone. A way that is left is begun anew.
    fn lose(&mut self, ways: impl IntoIterator<Item = Option<u32>>) {
        for id in ways.into_iter().flatten() {
            self.services.clear();
            self.listeners.retain(|listener| listener.send(usbmuxd::Event::Detached(id)).is_ok());
            self.connections.values().for_each(Socket::close);
        }
    }
}

impl Shared {
    /// `number` is that of the phone's first connection to the muxer, less one.
    fn new(phone: Phone, number: u32, options: Options) -> io::Result<Shared> {
        let keybag = options.password.as_deref().map(|password| Keybag::new(password, options.rounds));
        let (udid, mut values, name) = (phone.udid(), phone.lockdown_values(), phone.udid());
        values.extend(options.version.map(|version| ("ProductVersion".to_owned(), version.into())));
        Ok(Shared {
            afc: Mutex::new(afc::Tree::of(&phone)?),
            phone: RwLock::new(phone),
            values,
            system_buid: crate::text::uuid(&mut crate::text::rng(7, &name, 0)),
            udid,
            key: if options.short_key { DeviceKey::short() } else { DeviceKey::generate()? },
            impostor: DeviceKey::generate()?,
            state: Mutex::new(State {
                device_id: Some(number + 1),
                network_id: options.network.then_some(number + 1 + NETWORK),
                devices: number + 1,
                keybag: keybag.transpose()?,
                ..State::default()
            }),
            stopped: AtomicBool::new(false),
            options,
        })
    }

    /// Has `serve` speak for the phone on a connection of this socket, which ends when the cable is pulled.
    pub(crate) fn connected<T>(&self, socket: Socket, serve: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let number = {
            let mut state = self.state();
            state.next += 1;
            let number = state.next;
            state.connections.insert(number, socket);
            number
        };
        // A stop that came before now did not see this socket.
        let outcome =
            if self.stopped.load(Ordering::SeqCst) { Err(io::ErrorKind::NotConnected.into()) } else { serve() };
        if let Some(socket) = self.state().connections.remove(&number) {
            socket.close();
        }
        outcome
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn afc(&self) -> MutexGuard<'_, afc::Tree> {
        self.afc.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn phone(&self) -> RwLockReadGuard<'_, Phone> {
        self.phone.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn phone_mut(&self) -> RwLockWriteGuard<'_, Phone> {
        self.phone.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn fault(&self) -> Option<Fault> {
        self.state().fault.clone()
    }

    pub(crate) fn complain(&self, what: impl Into<String>) {
        self.state().complaints.push(what.into());
    }

    pub(crate) fn is_locked(&self) -> bool {
        let state = self.state();
        state.locked || state.fault == Some(Fault::Locked)
    }

    /// Tells those who observe it.
    pub(crate) fn notify(&self, name: &str) {
        self.state()
            .observers
            .retain(|(observer, names)| !names.iter().any(|one| one == name) || observer.send(name.to_owned()).is_ok());
    }

    /// Sleeps, unless the simulator ends first.
    pub(crate) fn sleep(&self, time: Duration) {
        let until = std::time::Instant::now() + time;
        while !self.stopped.load(Ordering::SeqCst) {
            let Some(left) = until.checked_duration_since(std::time::Instant::now()) else { return };
            thread::sleep(left.min(Duration::from_millis(20)));
        }
    }

    pub(crate) fn detach(&self) {
        let mut state = self.state();
        let gone = [state.device_id.take(), state.network_id.take()];
        state.lose(gone);
    }

    pub(crate) fn unplug(&self) {
        let mut state = self.state();
        let gone = [state.device_id.take()];
        state.lose(gone);
    }

    /// What becomes of the phone from now on, beginning with that it is there.
    pub(crate) fn listen(&self) -> Receiver<usbmuxd::Event> {
        let (sender, events) = channel();
        let mut state = self.state();
        for id in state.network_id.into_iter().chain(state.device_id) {
            // The other end is here.
            let _ = sender.send(usbmuxd::Event::Attached(id));
        }
        state.listeners.push(sender);
        events
    }

    pub(crate) fn attach(&self) {
        let mut state = self.state();
        if state.device_id.is_none() && !self.stopped.load(Ordering::SeqCst) {
            state.devices += 1;
            let id = state.devices;
            state.device_id = Some(id);
            let network = (self.options.network && state.network_id.is_none()).then_some(id + NETWORK);
            state.network_id = state.network_id.or(network);
            for id in network.into_iter().chain([id]) {
                state.listeners.retain(|listener| listener.send(usbmuxd::Event::Attached(id)).is_ok());
            }
        }
    }
}
