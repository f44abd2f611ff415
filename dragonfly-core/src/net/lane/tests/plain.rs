//! Lanes that go on without encryption: between whom, from which byte on, and what may not come before it.

use std::io::Write as _;

use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::super::cut::GO;
use super::*;
use crate::net::Carrier;

/// What nobody should read on the way.
const MARK: &[u8] = b"a secret that is told in the clear";

/// What a lane's ends said, as somebody on the way heard it.
type Heard = Arc<Mutex<Vec<u8>>>;

/// Passes connections on to `to`, and hears what is said on them.
async fn listener_in(to: SocketAddr) -> (Address, Heard) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (address, heard) = (Address::of_lane(listener.local_addr().unwrap()), Heard::default());
    let hears = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((here, _)) = listener.accept().await {
            let there = TcpStream::connect(to).await.unwrap();
            let ((here_in, here_out), (there_in, there_out)) = (here.into_split(), there.into_split());
            tokio::spawn(pass(here_in, there_out, Arc::clone(&hears)));
            tokio::spawn(pass(there_in, here_out, Arc::clone(&hears)));
        }
    });
    (address, heard)
}

async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, hears: Heard) {
    let mut part = vec![0; 4096];
    while let Ok(count @ 1..) = from.read(&mut part).await {
        hears.lock().unwrap().extend_from_slice(&part[..count]);
        if to.write_all(&part[..count]).await.is_err() {
            return;
        }
    }
}

/// A lane from `a` to `b`, over which both say at once what each has to say. What carried it at both ends, and whether who is
/// on the way read it.
async fn spoken(a: &Member, b: &mut Member) -> ([Carrier; 2], bool) {
    let (address, heard) = listener_in(b.socket()).await;
    let addresses = [address];
    let mut ours = soon(a.host.lane(b.host.local(), &addresses)).await.unwrap();
    let mut theirs = soon(b.incoming.recv()).await.unwrap().stream;
    let carriers = [ours.carrier(), theirs.carrier()];
    let said: Vec<u8> = MARK.iter().copied().cycle().take(1 << 20).collect();
    let speak = async |stream: &mut Stream| {
        let (mut input, mut output) = tokio::io::split(stream);
        let mut came = vec![0; said.len()];
        let send = async {
            output.write_all(&said).await.unwrap();
            output.flush().await.unwrap();
        };
        tokio::join!(send, async { input.read_exact(&mut came).await.unwrap() });
        assert!(came == said, "other bytes came");
    };
    soon(async { tokio::join!(speak(&mut ours), speak(&mut theirs)) }).await;
    let read = heard.lock().unwrap().windows(MARK.len()).any(|bytes| bytes == MARK);
    (carriers, read)
}

#[tokio::test]
async fn only_if_both_ends_let_it() {
    for (a, b, carrier) in [
        (true, true, Carrier::Plain),
        (true, false, Carrier::Lane),
        (false, true, Carrier::Lane),
        (false, false, Carrier::Lane),
    ] {
        let (a, mut b) = (Member::of(1, a), Member::of(2, b));
        let plain = carrier == Carrier::Plain;
        assert_eq!(spoken(&a, &mut b).await, ([carrier; 2], plain), "and {carrier:?} is what is read on the way");
        let bindings = |member: &Member| member.admission.bindings.lock().unwrap().len();
        assert_eq!((bindings(&a), bindings(&b)), (1, 1), "both were admitted");
    }
}

/// Neither beside private content, at either end, nor with whom one was spoilt.
#[tokio::test]
async fn not_with_everybody_and_not_always() {
    let (a, mut b) = (Member::of(1, true), Member::of(2, true));
    for side in [&a.host, &b.host.clone()] {
        let private = side.private();
        assert_eq!(spoken(&a, &mut b).await, ([Carrier::Lane; 2], false));
        drop(private);
        assert_eq!(spoken(&a, &mut b).await, ([Carrier::Plain; 2], true));
    }
    b.host.spoil(a.host.local());
    assert_eq!(spoken(&a, &mut b).await, ([Carrier::Lane; 2], false));
    let mut c = Member::of(3, true);
    assert_eq!(spoken(&b, &mut c).await, ([Carrier::Plain; 2], true));
    c.host.spoil(b.host.local());
    assert_eq!(spoken(&b, &mut c).await, ([Carrier::Lane; 2], false));
    assert!(Member::of(4, false).host.private().is_none(), "where all are encrypted there is nothing to keep");
}

/// A member that `to` has admitted, and that now may say what it likes.
async fn admitted(to: &Member) -> TlsStream<TcpStream> {
    let (certificate, key) = Forged::sound(7).make();
    let config = client(vec![certificate], key, &[tls::ALPN_PLAIN], &[&rustls::version::TLS13]);
    let tcp = TcpStream::connect(to.socket()).await.unwrap();
    let name = ServerName::IpAddress(to.socket().ip().into());
    let mut tls = soon(TlsConnector::from(Arc::new(config)).connect(name, tcp)).await.unwrap();
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(tls::ALPN_PLAIN));
    // What the test's admission says, and that it is done.
    tls.write_all(b"members!\x01").await.unwrap();
    tls.flush().await.unwrap();
    soon(tls.read_exact(&mut [0; 9])).await.unwrap();
    tls
}

/// Says `word` over TLS and `bare` beside it, in one packet: what is answered.
async fn says(to: &Member, word: &[u8], bare: &[u8]) -> io::Result<(u8, TlsStream<TcpStream>)> {
    let mut tls = admitted(to).await;
    let (tcp, session) = tls.get_mut();
    session.writer().write_all(word).unwrap();
    let mut packet = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut packet).unwrap();
    }
    packet.extend_from_slice(bare);
    tcp.write_all(&packet).await.unwrap();
    let answer = soon(tls.read_u8()).await?;
    Ok((answer, tls))
}

#[tokio::test]
async fn nothing_may_come_before_its_time() {
    let mut to = Member::of(1, true);
    let refused: [(&str, &[u8], &[u8]); 6] = [
        ("a bare byte that was not waited for", &[1], &[GO]),
        ("a whole record after the word", &[1], &[23, 3, 3, 0, 1, 0]),
        ("half the head of a record", &[1], &[23, 3]),
        ("a word more", &[1, 1], &[]),
        ("a word that nobody knows", &[7], &[]),
        ("a bare byte where the lane is to stay encrypted", &[0], &[GO]),
    ];
    for (what, word, bare) in refused {
        assert!(says(&to, word, bare).await.is_err(), "{what}");
    }
    to.has_none().await;
    // After the answer, another byte than the one that is due.
    let (answer, mut tls) = says(&to, &[1], &[]).await.unwrap();
    assert_eq!(answer, 1);
    let tcp = tls.get_mut().0;
    tcp.write_all(&[GO ^ 1]).await.unwrap();
    assert_eq!(soon(tcp.read(&mut [0])).await.unwrap_or(0), 0);
    to.has_none().await;
    assert!(to.incoming.try_recv().is_err(), "nobody heard of any of them");

    // And as it should be, with what follows in the same packet.
    let (answer, mut tls) = says(&to, &[1], &[]).await.unwrap();
    assert_eq!(answer, 1);
    let tcp = tls.get_mut().0;
    tcp.write_all(&[&[GO], MARK].concat()).await.unwrap();
    let mut theirs = soon(to.incoming.recv()).await.unwrap().stream;
    let mut came = vec![0; MARK.len()];
    soon(theirs.read_exact(&mut came)).await.unwrap();
    assert_eq!((came.as_slice(), theirs.carrier()), (MARK, Carrier::Plain));
    // Who wants to stay encrypted does.
    let (answer, mut tls) = says(&to, &[0], &[]).await.unwrap();
    assert_eq!(answer, 0);
    tls.write_all(MARK).await.unwrap();
    tls.flush().await.unwrap();
    let mut theirs = soon(to.incoming.recv()).await.unwrap().stream;
    soon(theirs.read_exact(&mut came)).await.unwrap();
    assert_eq!((came.as_slice(), theirs.carrier()), (MARK, Carrier::Lane));
}

/// Whose first bare byte does not come is not waited for.
#[tokio::test]
async fn who_stops_at_the_cut_is_let_go() {
    let limits = Limits { admission_timeout: Duration::from_millis(200), ..Limits::default() };
    let to = Member::set(1, b"members!", limits, true);
    // The time runs from the handshake on: what is said here may come too late by itself.
    if let Ok((_, mut tls)) = says(&to, &[1], &[]).await {
        assert_eq!(soon(tls.get_mut().0.read(&mut [0])).await.unwrap_or(0), 0);
    }
    to.has_none().await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn bytes_of_a_file_go_out_behind_their_head() {
    let (a, mut b) = (Member::of(1, true), Member::of(2, true));
    let ours = soon(a.dial(&b)).await.unwrap();
    let mut theirs = soon(b.incoming.recv()).await.unwrap().stream;
    let direct = ours.direct().unwrap();
    let content: Vec<u8> = (0..1_u32 << 20).map(|n| (n ^ (n >> 9)) as u8).collect();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&content).unwrap();
    let from = 4321;
    let send = async {
        direct.send_head(&mut MARK.into()).await.unwrap();
        let mut offset = from;
        loop {
            match direct.send_file(&file, offset as u64, content.len()).await.unwrap() {
                0 => break,
                sent => offset += sent,
            }
        }
        assert_eq!(offset, content.len(), "0 says that the file ends");
    };
    let wanted = [MARK, &content[from..]].concat();
    let mut came = vec![0; wanted.len()];
    let receive = async { theirs.read_exact(&mut came).await.unwrap() };
    soon(async { tokio::join!(send, receive) }).await;
    assert!(came == wanted, "other bytes came");
    let over_tls = soon(Member::of(3, false).dial(&b)).await.unwrap();
    assert!(over_tls.direct().is_none());
}
