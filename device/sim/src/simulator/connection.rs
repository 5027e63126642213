//! A connection from the computer: a socket, TLS over it if asked for, and the frames that services share.
//! Writes are gathered until a flush or a read, so that a read never waits for an answer to what was not sent.

use std::io::{self, Cursor, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::ops::{DerefMut, Range};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plist::Value;
use rustls::{ConnectionCommon, ServerConfig, ServerConnection, SideData, StreamOwned};

/// Longest property list that is taken from the computer, in bytes.
const MAX_PLIST: u32 = 64 << 20;
const GATHERED: usize = 64 << 10;

/// A stream socket of either kind.
pub(crate) enum Socket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

/// A buffered connection, in the clear or in TLS.
pub(crate) struct Connection {
    transport: Option<Transport>,
    incoming: Vec<u8>,
    /// What of `incoming` came and is not read yet.
    unread: Range<usize>,
    outgoing: Vec<u8>,
    /// Whether it goes over Wi-Fi.
    pub(crate) is_by_network: bool,
}

enum Transport {
    Plain(Socket),
    Tls(Box<StreamOwned<ServerConnection, Socket>>),
}

/// What came within a time.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    Data,
    Nothing,
    End,
}

impl Connection {
    pub(crate) fn new(socket: Socket) -> Connection {
        Connection {
            transport: Some(Transport::Plain(socket)),
            incoming: vec![0; GATHERED],
            unread: 0..0,
            outgoing: Vec::new(),
            is_by_network: false,
        }
    }

    /// Makes the handshake as the server. The computer may not have sent anything ahead of it in the clear.
    pub(crate) fn start_tls(&mut self, config: Arc<ServerConfig>) -> io::Result<()> {
        self.flush()?;
        if !self.unread.is_empty() {
            return Err(io::Error::other("data came before the TLS handshake"));
        }
        let Some(Transport::Plain(socket)) = self.transport.take() else {
            return Err(io::Error::other("TLS within TLS"));
        };
        let session = ServerConnection::new(config).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(session, socket);
        let outcome = (|| {
            while stream.conn.is_handshaking() {
                stream.conn.complete_io(&mut stream.sock)?;
            }
            stream.flush()
        })();
        self.transport = Some(Transport::Tls(Box::new(stream)));
        outcome
    }

    /// Ends TLS and goes on in the clear.
    pub(crate) fn stop_tls(&mut self) -> io::Result<()> {
        self.flush()?;
        match self.transport.take() {
            Some(Transport::Tls(mut stream)) => {
                stream.conn.send_close_notify();
                stream.flush()?;
                let mut rest = [0; 16];
                while !matches!(stream.read(&mut rest), Ok(0) | Err(_)) {}
                self.transport = Some(Transport::Plain(stream.sock));
            }
            plain => self.transport = plain,
        }
        Ok(())
    }

    pub(crate) fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.socket()?.set_read_timeout(timeout)
    }

    /// Waits until there is something to read.
    pub(crate) fn wait(&mut self, timeout: Duration) -> io::Result<Arrival> {
        self.flush()?;
        if !self.unread.is_empty() {
            return Ok(Arrival::Data);
        }
        self.set_read_timeout(Some(timeout.max(Duration::from_millis(1))))?;
        let arrival = match self.fill() {
            Ok(()) if self.unread.is_empty() => Ok(Arrival::End),
            Ok(()) => Ok(Arrival::Data),
            Err(error) if is_timeout(&error) => Ok(Arrival::Nothing),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Arrival::End),
            Err(error) => Err(error),
        };
        self.set_read_timeout(None)?;
        arrival
    }

    /// Reads and forgets until the computer closes, for at most this long.
    pub(crate) fn drain(&mut self, patience: Duration) {
        let until = Instant::now() + patience;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            self.unread = 0..0;
            match self.wait(left) {
                Ok(Arrival::Data) => {}
                _ => break,
            }
        }
    }

    pub(crate) fn close(&mut self) {
        if let Ok(socket) = self.socket() {
            socket.close();
        }
    }

    /// Reads a property list in either format behind its length as four bytes, big endian.
    pub(crate) fn read_plist(&mut self) -> io::Result<Value> {
        parse_plist(self.read_message()?)
    }

    /// Reads the bytes of a message behind their length.
    pub(crate) fn read_message(&mut self) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length);
        if length == 0 || length > MAX_PLIST {
            return Err(io::Error::other(format!("a property list of {length} bytes")));
        }
        let mut bytes = Vec::new();
        self.take(length.into()).read_to_end(&mut bytes)?;
        if bytes.len() < length as usize {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(bytes)
    }

    /// Sends `value` as a binary property list behind its length.
    pub(crate) fn write_plist(&mut self, value: &Value) -> io::Result<()> {
        let mut bytes = Vec::new();
        value.to_writer_binary(&mut bytes).map_err(io::Error::other)?;
        self.write_message(&bytes)
    }

    /// As [`Connection::write_plist`] in XML.
    pub(crate) fn write_xml_plist(&mut self, value: &Value) -> io::Result<()> {
        let mut bytes = Vec::new();
        value.to_writer_xml(&mut bytes).map_err(io::Error::other)?;
        self.write_message(&bytes)
    }

    fn write_message(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(&(bytes.len() as u32).to_be_bytes())?;
        self.write_all(bytes)?;
        self.flush()
    }

    fn fill(&mut self) -> io::Result<()> {
        self.flush()?;
        self.unread = 0..0;
        let count = match self.transport.as_mut() {
            Some(Transport::Plain(socket)) => socket.read(&mut self.incoming),
            Some(Transport::Tls(stream)) => read_tls(stream, &mut self.incoming),
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        self.unread = 0..count?;
        Ok(())
    }

    fn socket(&self) -> io::Result<&Socket> {
        match self.transport.as_ref() {
            Some(Transport::Plain(socket)) => Ok(socket),
            Some(Transport::Tls(stream)) => Ok(&stream.sock),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.unread.is_empty() {
            self.fill()?;
        }
        let count = (&self.incoming[self.unread.clone()]).read(buffer)?;
        self.unread.start += count;
        Ok(count)
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outgoing.extend(bytes);
        if self.outgoing.len() >= GATHERED {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let gathered = std::mem::take(&mut self.outgoing);
        if gathered.is_empty() {
            return Ok(());
        }
        let outcome = match self.transport.as_mut() {
            Some(Transport::Plain(socket)) => socket.write_all(&gathered),
            Some(Transport::Tls(stream)) => stream.write_all(&gathered).and_then(|()| stream.flush()),
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        self.outgoing = gathered;
        self.outgoing.clear();
        outcome
    }
}

/// The property list in these bytes, in either format.
pub(crate) fn parse_plist(bytes: Vec<u8>) -> io::Result<Value> {
    Value::from_reader(Cursor::new(bytes)).map_err(io::Error::other)
}

/// Reads without writing, as the stream itself would if it could not write before: what came from one who has closed is
/// still to be had.
pub(crate) fn read_tls<C, S>(stream: &mut StreamOwned<C, impl Read + Write>, buffer: &mut [u8]) -> io::Result<usize>
where
    C: DerefMut<Target = ConnectionCommon<S>>,
    S: SideData,
{
    loop {
        match stream.conn.reader().read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            outcome => return outcome,
        }
        stream.conn.read_tls(&mut stream.sock)?;
        stream.conn.process_new_packets().map_err(io::Error::other)?;
    }
}

/// Whether a read ended because nothing came in its time.
pub(crate) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

impl Socket {
    pub(crate) fn try_clone(&self) -> io::Result<Socket> {
        match self {
            Socket::Tcp(socket) => socket.try_clone().map(Socket::Tcp),
            #[cfg(unix)]
            Socket::Unix(socket) => socket.try_clone().map(Socket::Unix),
        }
    }

    pub(crate) fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Socket::Tcp(socket) => socket.set_read_timeout(timeout),
            #[cfg(unix)]
            Socket::Unix(socket) => socket.set_read_timeout(timeout),
        }
    }

    /// Ends both directions; whoever reads or writes it gets an end or an error.
    pub(crate) fn close(&self) {
        // The other side may have closed first.
        let _ = match self {
            Socket::Tcp(socket) => socket.shutdown(Shutdown::Both),
            #[cfg(unix)]
            Socket::Unix(socket) => socket.shutdown(Shutdown::Both),
        };
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.read(buffer),
            #[cfg(unix)]
            Socket::Unix(socket) => socket.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.write(bytes),
            #[cfg(unix)]
            Socket::Unix(socket) => socket.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
