//! The muxer's socket: four little-endian words, length, version 1, type 8 and a tag, before each XML property list.
//! After a successful Connect the socket is the phone's.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use plist::{Dictionary, Value};

use super::connection::{Arrival, Connection, Socket};
use super::{Shared, lockdown, services};
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

/// Answers requests until the computer closes, and is the phone's service after a Connect.
pub(crate) fn serve(shared: &Arc<Shared>, socket: Socket, number: u64) -> io::Result<()> {
    let mut connection = Connection::new(socket);
    // The muxer outlives a cable that is pulled: only what is connected to the phone is closed then.
    let own = shared.state().connections.remove(&number);
    let keep = |shared: &Shared| {
        if let Some(socket) = own.as_ref().and_then(|socket| socket.try_clone().ok()) {
            shared.state().connections.insert(number, socket);
        }
    };
    loop {
        match connection.wait(Duration::from_millis(200))? {
            Arrival::End => return Ok(()),
            Arrival::Nothing if shared.stopped.load(std::sync::atomic::Ordering::SeqCst) => return Ok(()),
            Arrival::Nothing => continue,
            Arrival::Data => {}
        }
        let Some(Request { tag, message }) = read_request(&mut connection)? else { return Ok(()) };
        let text = |key: &str| message.get(key).and_then(Value::as_string).unwrap_or_default();
        match text("MessageType") {
            "ListDevices" => {
                let devices = shared.state().device_id.map(|id| Value::Dictionary(attached(shared, id)));
                let list = Value::Array(devices.into_iter().collect());
                respond(&mut connection, tag, dictionary([("DeviceList", list)]))?;
            }
            "ListListeners" => {
                respond(&mut connection, tag, dictionary([("ListenerList", Value::Array(Vec::new()))]))?;
            }
            "ReadBUID" => {
                respond(&mut connection, tag, dictionary([("BUID", shared.system_buid.as_str().into())]))?;
            }
            "Listen" => {
                let (sender, events) = channel();
                let device = {
                    let mut state = shared.state();
                    state.listeners.push(sender);
                    state.device_id
                };
                result(&mut connection, tag, OK)?;
                if let Some(id) = device {
                    respond(&mut connection, 0, attached(shared, id))?;
                }
                return listen(shared, &mut connection, &events);
            }
            "ReadPairRecord" => match shared.state().pair_records.get(text("PairRecordID")).cloned() {
                Some(record) => respond(&mut connection, tag, dictionary([("PairRecordData", Value::Data(record))]))?,
                None => result(&mut connection, tag, BAD_DEVICE)?,
            },
            "SavePairRecord" => {
                let code = save_pair_record(shared, &message);
                result(&mut connection, tag, code)?;
            }
            "DeletePairRecord" => {
                let removed = shared.state().pair_records.remove(text("PairRecordID"));
                result(&mut connection, tag, if removed.is_some() { OK } else { BAD_DEVICE })?;
            }
            "Connect" => {
                let port = message.get("PortNumber").and_then(Value::as_unsigned_integer).unwrap_or(0);
                let port = u16::try_from(port).unwrap_or(0).swap_bytes();
                let id = message.get("DeviceID").and_then(Value::as_unsigned_integer);
                if id.is_none() || id != shared.state().device_id.map(u64::from) {
                    result(&mut connection, tag, BAD_DEVICE)?;
                    continue;
                }
                if port == lockdown::PORT {
                    keep(shared);
                    result(&mut connection, tag, OK)?;
                    return lockdown::serve(shared, connection);
                }
                let Some(service) = shared.state().services.remove(&port) else {
                    result(&mut connection, tag, REFUSED)?;
                    continue;
                };
                keep(shared);
                result(&mut connection, tag, OK)?;
                return services::serve(shared, connection, &service);
            }
            _ => result(&mut connection, tag, BAD_COMMAND)?,
        }
    }
}

fn save_pair_record(shared: &Shared, message: &Dictionary) -> u64 {
    let id = message.get("PairRecordID").and_then(Value::as_string);
    let (Some(id), Some(data)) = (id, message.get("PairRecordData").and_then(Value::as_data)) else {
        return BAD_COMMAND;
    };
    let mut state = shared.state();
    state.pair_records.insert(id.to_owned(), data.to_owned());
    if let Some(id) = state.device_id {
        state.listeners.retain(|listener| listener.send(Event::Paired(id)).is_ok());
    }
    OK
}

fn listen(shared: &Shared, connection: &mut Connection, events: &Receiver<Event>) -> io::Result<()> {
    loop {
        for event in events.try_iter() {
            let of = |kind: &str, id: u32| dictionary([("MessageType", kind.into()), ("DeviceID", id.into())]);
            let message = match event {
                Event::Attached(id) => attached(shared, id),
                Event::Detached(id) => of("Detached", id),
                Event::Paired(id) => of("Paired", id),
            };
            respond(connection, 0, message)?;
        }
        match connection.wait(Duration::from_millis(20))? {
            Arrival::Nothing if !shared.stopped.load(std::sync::atomic::Ordering::SeqCst) => {}
            // A listener has nothing more to say.
            _ => return Ok(()),
        }
    }
}

fn attached(shared: &Shared, id: u32) -> Dictionary {
    let properties = dictionary([
        ("ConnectionSpeed", 480_000_000.into()),
        ("ConnectionType", "USB".into()),
        ("DeviceID", id.into()),
        ("LocationID", 0x14_10_00_00.into()),
        ("ProductID", 0x12a8.into()),
        ("SerialNumber", shared.udid.as_str().into()),
    ]);
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
