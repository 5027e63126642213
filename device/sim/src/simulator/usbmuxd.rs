//! The muxer's socket: four little-endian words, length, version 1, type 8 and a tag, before each XML property list.
//! After a successful Connect the socket is the phone's.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use plist::{Dictionary, Value};

use super::connection::{Arrival, Connection, Socket};
use super::{Fault, Hub, Shared, lockdown, services};
use crate::manifest::dictionary;

const HEADER: u32 = 16;
const MAX_REQUEST: u32 = 1 << 20;
const PLIST: u32 = 8;

const OK: u64 = 0;
const BAD_COMMAND: u64 = 1;
const BAD_DEVICE: u64 = 2;
const REFUSED: u64 = 3;
const BAD_VERSION: u64 = 6;

/// What listeners are told.
#[derive(Clone, Copy)]
pub(crate) enum Event {
    Attached(u32),
    Detached(u32),
    Paired(u32),
}

struct Request {
    tag: u32,
    message: Dictionary,
}

/// Answers requests until the computer closes, and is a phone's service after a Connect.
pub(crate) fn serve(hub: &Hub, socket: Socket) -> io::Result<()> {
    // What is connected to a phone is closed when its cable is pulled; the muxer outlives that.
    let own = socket.try_clone()?;
    let mut connection = Connection::new(socket);
    loop {
        match connection.wait(Duration::from_millis(200))? {
            Arrival::End => return Ok(()),
            Arrival::Nothing if hub.stopped.load(Ordering::SeqCst) => return Ok(()),
            Arrival::Nothing => continue,
            Arrival::Data => {}
        }
        let Some(Request { tag, message }) = read_request(&mut connection)? else { return Ok(()) };
        let text = |key: &str| message.get(key).and_then(Value::as_string).unwrap_or_default();
        match text("MessageType") {
            "ListDevices" => {
                let odd = hub.is_odd().then(odd_message);
                let devices = hub.attached().map(|(shared, id)| attached(shared, id));
                let list = odd.into_iter().chain(devices).map(Value::Dictionary).collect();
                respond(&mut connection, tag, dictionary([("DeviceList", Value::Array(list))]))?;
            }
            "ListListeners" => {
                respond(&mut connection, tag, dictionary([("ListenerList", Value::Array(Vec::new()))]))?;
            }
            "ReadBUID" => {
                let buid = hub.phones.first().map_or("", |phone| phone.system_buid.as_str());
                respond(&mut connection, tag, dictionary([("BUID", buid.into())]))?;
            }
            "Listen" => {
                result(&mut connection, tag, OK)?;
                return listen(hub, &mut connection);
            }
            "ReadPairRecord" => {
                let id = text("PairRecordID");
                match hub.phones.iter().find_map(|phone| phone.state().pair_records.get(id).cloned()) {
                    Some(record) => {
                        respond(&mut connection, tag, dictionary([("PairRecordData", Value::Data(record))]))?;
                    }
                    None => result(&mut connection, tag, BAD_DEVICE)?,
                }
            }
            "SavePairRecord" => {
                let code = save_pair_record(hub, &message);
                result(&mut connection, tag, code)?;
            }
            "DeletePairRecord" => {
                let id = text("PairRecordID");
                let is_removed = hub.phones.iter().any(|phone| phone.state().pair_records.remove(id).is_some());
                result(&mut connection, tag, if is_removed { OK } else { BAD_DEVICE })?;
            }
            "Connect" => {
                let port = message.get("PortNumber").and_then(Value::as_unsigned_integer).unwrap_or(0);
                let port = u16::try_from(port).unwrap_or(0).swap_bytes();
                let id = message.get("DeviceID").and_then(Value::as_unsigned_integer);
                let Some((shared, way)) = hub.attached().find(|(_, attached)| id == Some(u64::from(*attached))) else {
                    result(&mut connection, tag, BAD_DEVICE)?;
                    continue;
                };
                let service = shared.state().services.remove(&port);
                if service.is_none() && port != lockdown::PORT {
                    result(&mut connection, tag, REFUSED)?;
                    continue;
                }
                connection.is_by_network = shared.state().network_id == Some(way);
                return shared.connected(own, || {
                    result(&mut connection, tag, OK)?;
                    match service {
                        Some(service) => services::serve(shared, connection, &service),
                        None => lockdown::serve(shared, connection),
                    }
                });
            }
            _ => result(&mut connection, tag, BAD_COMMAND)?,
        }
    }
}

impl Hub {
    fn is_odd(&self) -> bool {
        self.phones.iter().any(|phone| phone.fault() == Some(Fault::OddMuxer))
    }

    /// The ways to phones, and their numbers: Wi-Fi before the cable.
    fn attached(&self) -> impl Iterator<Item = (&Arc<Shared>, u32)> {
        self.phones.iter().flat_map(|phone| {
            let state = phone.state();
            [state.network_id, state.device_id].into_iter().flatten().map(move |id| (phone, id))
        })
    }
}

/// The record of any phone may be kept; those that are not here are kept with the first.
fn save_pair_record(hub: &Hub, message: &Dictionary) -> u64 {
    let id = message.get("PairRecordID").and_then(Value::as_string);
    let (Some(id), Some(data)) = (id, message.get("PairRecordData").and_then(Value::as_data)) else {
        return BAD_COMMAND;
    };
    let Some(phone) = hub.phones.iter().find(|phone| phone.udid == id).or(hub.phones.first()) else {
        return BAD_DEVICE;
    };
    let mut state = phone.state();
    state.pair_records.insert(id.to_owned(), data.to_owned());
    if let Some(id) = state.device_id {
        state.listeners.retain(|listener| listener.send(Event::Paired(id)).is_ok());
    }
    OK
}

/// Tells of the phones that are there, then of those that come and go.
fn listen(hub: &Hub, connection: &mut Connection) -> io::Result<()> {
    let listening: Vec<_> = hub.phones.iter().map(|phone| (phone, phone.listen())).collect();
    if hub.is_odd() {
        respond(connection, 0, odd_message())?;
    }
    loop {
        for (phone, events) in &listening {
            for event in events.try_iter() {
                let of = |kind: &str, id: u32| dictionary([("MessageType", kind.into()), ("DeviceID", id.into())]);
                let message = match event {
                    Event::Attached(id) => attached(phone, id),
                    Event::Detached(id) => of("Detached", id),
                    Event::Paired(id) => of("Paired", id),
                };
                respond(connection, 0, message)?;
            }
        }
        match connection.wait(Duration::from_millis(20))? {
            Arrival::Nothing if !hub.stopped.load(Ordering::SeqCst) => {}
            // A listener has nothing more to say.
            _ => return Ok(()),
        }
    }
}

/// Tells of a device, or so it seems, and of nothing that is known of one.
fn odd_message() -> Dictionary {
    dictionary([("MessageType", "Levitated".into()), ("DeviceID", (-1).into())])
}

fn attached(shared: &Shared, id: u32) -> Dictionary {
    let mut properties = dictionary([("DeviceID", id.into()), ("SerialNumber", shared.udid.as_str().into())]);
    if shared.state().network_id == Some(id) {
        // An address as the system has it: AF_INET, a port, 192.0.2.7.
        let address = [&[16, 2, 0, 0, 192, 0, 2, 7][..], &[0; 120]].concat();
        properties.extend(dictionary([
            ("ConnectionType", "Network".into()),
            ("EscapedFullServiceName", "a4:5e:60:00:00:01@fe80::1._apple-mobdev2._tcp.local.".into()),
            ("InterfaceIndex", 2.into()),
            ("NetworkAddress", Value::Data(address)),
        ]));
    } else {
        properties.extend(dictionary([
            ("ConnectionSpeed", 480_000_000.into()),
            ("ConnectionType", "USB".into()),
            ("LocationID", 0x14_10_00_00.into()),
            ("ProductID", 0x12a8.into()),
        ]));
    }
    dictionary([
        ("MessageType", "Attached".into()),
        ("DeviceID", id.into()),
        ("Properties", Value::Dictionary(properties)),
    ])
}

fn read_request(connection: &mut Connection) -> io::Result<Option<Request>> {
    let mut header = [0; HEADER as usize];
    connection.read_exact(&mut header)?;
    let mut words = header.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap_or_default()));
    let mut word = || words.next().unwrap_or_default();
    let (length, version, kind, tag) = (word(), word(), word(), word());
    let Some(length) = length.checked_sub(HEADER).filter(|length| *length <= MAX_REQUEST) else { return Ok(None) };
    if version != 1 || kind != PLIST {
        result(connection, tag, BAD_VERSION)?;
        return Ok(None);
    }
    let mut bytes = vec![0; length as usize];
    connection.read_exact(&mut bytes)?;
    let message = plist::from_bytes(&bytes).map_err(io::Error::other)?;
    Ok(Some(Request { tag, message }))
}

fn result(connection: &mut Connection, tag: u32, number: u64) -> io::Result<()> {
    respond(connection, tag, dictionary([("MessageType", "Result".into()), ("Number", number.into())]))
}

fn respond(connection: &mut Connection, tag: u32, message: Dictionary) -> io::Result<()> {
    let mut bytes = Vec::new();
    Value::Dictionary(message).to_writer_xml(&mut bytes).map_err(io::Error::other)?;
    for word in [HEADER + bytes.len() as u32, 1, PLIST, tag] {
        connection.write_all(&word.to_le_bytes())?;
    }
    connection.write_all(&bytes)?;
    connection.flush()
}
