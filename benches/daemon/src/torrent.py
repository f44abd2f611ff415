"""One host of a swarm of libtorrent, for torrent.rs: python -c THIS ROLE FILE ADDRESS OTHERS...

ROLE is seed (FILE is there) or peer (FILE comes). Says "ready" once it listens; when it reads a line it connects to
OTHERS; says "done" once it has everything; when its standard input ends it says what it has sent and used, and ends.
"""

import json
import os
import sys
import threading
import time

import libtorrent

PORT = int(os.environ["PORT"])
PIECE = 256 << 10

role, path, address, *others = sys.argv[1:]
folder = os.path.dirname(path)
session = libtorrent.session(
    {
        "listen_interfaces": f"{address}:{PORT}",
        "outgoing_interfaces": address,
        # Who is there is told: nothing has to be found, and nothing is there to ask.
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        # TCP, as all the others: uTP would yield to its own queues.
        "enable_outgoing_utp": False,
        "enable_incoming_utp": False,
        # Its way to give all who wait an equal part of one seed.
        "seed_choking_algorithm": int(libtorrent.seed_choking_algorithm_t.round_robin),
        "connection_speed": 200,
        "alert_mask": 0,
    }
)
meta = os.environ["TORRENT"]
if role == "seed":
    files = libtorrent.file_storage()
    libtorrent.add_files(files, path)
    torrent = libtorrent.create_torrent(files, PIECE)
    libtorrent.set_piece_hashes(torrent, folder)
    with open(meta + ".new", "wb") as out:
        out.write(libtorrent.bencode(torrent.generate()))
    os.rename(meta + ".new", meta)
params = libtorrent.add_torrent_params()
params.ti = libtorrent.torrent_info(meta)
params.save_path = folder
params.flags = libtorrent.torrent_flags.seed_mode if role == "seed" else libtorrent.torrent_flags.default_flags
params.flags &= ~(libtorrent.torrent_flags.auto_managed | libtorrent.torrent_flags.paused)
handle = session.add_torrent(params)
print("ready", flush=True)

sys.stdin.readline()
for other in others:
    handle.connect_peer((other, PORT))
ended = threading.Event()


def wait_for_the_end():
    sys.stdin.read()
    ended.set()


threading.Thread(target=wait_for_the_end, daemon=True).start()
is_told = False
while not ended.wait(0.02):
    if not is_told and handle.status().is_seeding:
        is_told = True
        print("done", flush=True)
status, times = handle.status(), os.times()
said = {"sent": status.total_payload_upload, "twice": status.total_redundant_bytes, "seconds": times.user + times.system}
print(json.dumps(said), flush=True)
