#!/usr/bin/env python3
"""TCP clients whose every segment is sent by hand, at the far end of a tun device.

The device belongs to the network namespace this process was started in. Its near end has the addresses
10.7.0.1/16 and fd07::1/64, which servers under test can be bound to; every other address of the two networks is a
client here. Nothing is ever sent that was not asked for: no ACK, no RST, no retransmission.

Commands come as JSON objects, one a line, on stdin; every one has an `id` and gets one reply with the same `id`:

  open       client, family, source, sourcePort, destination, port      declares a client
  send       client, flags (list of SYN, ACK, FIN, RST), text           sends one segment, and counts it as sent
  resend     client                                                     sends its last segment again, byte by byte
  flood      family, destination, port, count                           SYNs from as many clients that never answer;
                                                                        without a count until stopFlood; replies when done
  stopFlood                                                             replies with `sent` and `answered`

A segment that reaches a declared client is reported as {"segment": {client, flags, seq, ack, text}}; `seq` and `ack`
count from the two initial sequence numbers, so that the SYN-ACK to a bare SYN has seq 0 and ack 1.
"""

import fcntl
import ipaddress
import json
import os
import random
import select
import socket
import struct
import sys

DEVICE = b"puppet0"
NEAR_ADDRESSES = {4: ("10.7.0.1", 16), 6: ("fd07::1", 64)}
# Sources of a flood: away from the addresses that tests choose for their clients.
FLOOD_NETWORK = {4: "10.7.200.0", 6: "fd07::c8:0"}
FLOOD_HOSTS = 250
FLOOD_FIRST_PORT = 1024
FLOOD_BATCH = 32

TUNSETIFF = 0x400454CA
IFF_TUN = 0x0001
IFF_NO_PI = 0x1000
SIOCSIFFLAGS = 0x8914
SIOCSIFADDR = 0x8916
SIOCSIFNETMASK = 0x891C
IFF_UP = 0x1
IPPROTO_TCP = 6
WINDOW = 65535
LARGEST_PACKET = 65536
FLAG_BITS = {"FIN": 0x01, "SYN": 0x02, "RST": 0x04, "ACK": 0x10}
MSS_OPTION = struct.pack("!BBH", 2, 4, 1300)


def open_device():
    """A tun device that is up and has the near addresses (netdevice(7), struct in6_ifreq in linux/ipv6.h)."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", DEVICE, IFF_TUN | IFF_NO_PI))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        address, prefix = NEAR_ADDRESSES[4]
        netmask = socket.inet_aton(str(ipaddress.ip_network(f"0.0.0.0/{prefix}").netmask))
        for request, value in (SIOCSIFADDR, socket.inet_aton(address)), (SIOCSIFNETMASK, netmask):
            fcntl.ioctl(control, request, struct.pack("16sHH4s16x", DEVICE, socket.AF_INET, 0, value))
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH22x", DEVICE, IFF_UP))
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as control:
        address, prefix = NEAR_ADDRESSES[6]
        index = socket.if_nametoindex(DEVICE.decode())
        request = struct.pack("16sIi", socket.inet_pton(socket.AF_INET6, address), prefix, index)
        fcntl.ioctl(control, SIOCSIFADDR, request)
    return device


def internet_checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packet(family, source, destination, tcp_head, payload):
    """An IP packet around a TCP segment; `tcp_head` is the header with a checksum of zero."""
    length = len(tcp_head) + len(payload)
    if family == 4:
        pseudo = source + destination + struct.pack("!BBH", 0, IPPROTO_TCP, length)
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0x4000, 64, IPPROTO_TCP, 0) + source + destination
        head = head[:10] + struct.pack("!H", internet_checksum(head)) + head[12:]
    else:
        pseudo = source + destination + struct.pack("!IHBB", length, 0, 0, IPPROTO_TCP)
        head = struct.pack("!IHBB", 0x60000000, length, IPPROTO_TCP, 64) + source + destination
    checksum = internet_checksum(pseudo + tcp_head + payload)
    return head + tcp_head[:16] + struct.pack("!H", checksum) + tcp_head[18:] + payload


def tcp_header(source_port, port, seq, ack, bits):
    options = MSS_OPTION if bits & FLAG_BITS["SYN"] else b""
    offset = (20 + len(options)) // 4 << 4
    return struct.pack("!HHIIBBHHH", source_port, port, seq, ack, offset, bits, WINDOW, 0, 0) + options


class Client:
    """One end of one connection: the sequence numbers, and the segment sent last."""

    def __init__(self, order):
        self.name = order["client"]
        self.family = order["family"]
        self.source = ipaddress.ip_address(order["source"]).packed
        self.destination = ipaddress.ip_address(order["destination"]).packed
        self.source_port = order["sourcePort"]
        self.port = order["port"]
        self.first_seq = self.next_seq = random.getrandbits(32)
        self.first_ack = self.next_ack = None
        self.last = None

    def key(self):
        return (self.source, self.source_port, self.destination, self.port)

    def segment(self, flags, text):
        bits = sum(FLAG_BITS[flag] for flag in flags)
        payload = text.encode()
        ack = self.next_ack if "ACK" in flags else 0
        if ack is None:
            raise RuntimeError(f"client {self.name} has nothing to acknowledge yet")
        head = tcp_header(self.source_port, self.port, self.next_seq, ack, bits)
        self.last = packet(self.family, self.source, self.destination, head, payload)
        consumed = len(payload) + ("SYN" in flags) + ("FIN" in flags)
        self.next_seq = (self.next_seq + consumed) & 0xFFFFFFFF
        return self.last

    def take(self, seq, ack, bits, payload):
        """Notes what came; a segment out of order is reported, but not acknowledged by the next ACK."""
        if bits & FLAG_BITS["SYN"]:
            # A SYN-ACK may take back data that was sent with the SYN: only what it confirms counts as sent.
            if self.first_ack is None:
                self.next_seq = ack
            if self.first_ack != seq:
                self.first_ack = seq
                self.next_ack = (seq + 1) & 0xFFFFFFFF
        elif seq == self.next_ack:
            consumed = len(payload) + bool(bits & FLAG_BITS["FIN"])
            self.next_ack = (self.next_ack + consumed) & 0xFFFFFFFF
        return {
            "client": self.name,
            "flags": [name for name, bit in FLAG_BITS.items() if bits & bit],
            "seq": (seq - (self.first_ack or 0)) & 0xFFFFFFFF,
            "ack": (ack - self.first_seq) & 0xFFFFFFFF if bits & FLAG_BITS["ACK"] else 0,
            "text": payload.decode(errors="replace"),
        }


class Flood:
    """SYNs from ever new clients; the answers are counted and left unanswered."""

    def __init__(self, order, first):
        self.id = order["id"]
        self.first = first
        self.family = order["family"]
        self.destination = ipaddress.ip_address(order["destination"]).packed
        self.port = order["port"]
        self.count = order.get("count")
        self.sent = 0
        self.answered = 0
        network = int(ipaddress.ip_address(FLOOD_NETWORK[self.family]))
        address = ipaddress.IPv4Address if self.family == 4 else ipaddress.IPv6Address
        self.hosts = [address(network + 2 + host).packed for host in range(FLOOD_HOSTS)]
        self.known = set(self.hosts)

    def finished(self):
        return self.count is not None and self.sent >= self.count

    def next_packet(self):
        number = self.first + self.sent
        host = self.hosts[number % FLOOD_HOSTS]
        source_port = FLOOD_FIRST_PORT + (number // FLOOD_HOSTS) % (65536 - FLOOD_FIRST_PORT)
        self.sent += 1
        head = tcp_header(source_port, self.port, number * 64007 & 0xFFFFFFFF, 0, FLAG_BITS["SYN"])
        return packet(self.family, host, self.destination, head, b"")


class Puppet:
    def __init__(self, device):
        self.device = device
        self.clients = {}
        self.by_key = {}
        self.flood = None
        # SYNs of all floods: no two come from the same address and port.
        self.flooded = 0

    def obey(self, order):
        """The reply to a command, or nothing when it is given later."""
        what = order["do"]
        if what == "open":
            client = Client(order)
            self.clients[client.name] = self.by_key[client.key()] = client
        elif what == "send":
            client = self.clients[order["client"]]
            os.write(self.device, client.segment(order["flags"], order.get("text", "")))
        elif what == "resend":
            os.write(self.device, self.clients[order["client"]].last)
        elif what == "flood":
            if self.flood:
                raise RuntimeError("a flood is under way")
            self.flood = Flood(order, self.flooded)
            return None
        elif what == "stopFlood":
            return self.end_flood()
        else:
            raise RuntimeError(f"no such command: {what}")
        return {}

    def continue_flood(self):
        for _ in range(FLOOD_BATCH):
            if self.flood.finished():
                self.hear()
                self.end_flood()
                return
            os.write(self.device, self.flood.next_packet())

    def end_flood(self):
        flood, self.flood = self.flood, None
        if not flood:
            raise RuntimeError("no flood is under way")
        self.flooded += flood.sent
        result = {"sent": flood.sent, "answered": flood.answered}
        say({"id": flood.id, **result})
        return result

    def hear(self):
        """Takes every packet that has come."""
        while True:
            try:
                data = os.read(self.device, LARGEST_PACKET)
            except BlockingIOError:
                return
            self.hear_packet(data)

    def hear_packet(self, data):
        if data[0] >> 4 == 4:
            protocol, source, destination = data[9], data[12:16], data[16:20]
            segment = data[(data[0] & 15) * 4 :]
        else:
            # The kernel puts no extension headers before TCP; router solicitations and the like are not for us.
            protocol, source, destination = data[6], data[8:24], data[24:40]
            segment = data[40:]
        if protocol != IPPROTO_TCP:
            return
        port, client_port, seq, ack, offset, bits = struct.unpack("!HHIIBB", segment[:14])
        client = self.by_key.get((destination, client_port, source, port))
        if client:
            payload = segment[(offset >> 4) * 4 :]
            say({"segment": client.take(seq, ack, bits, payload)})
        elif self.flood and destination in self.flood.known:
            self.flood.answered += 1


def say(message):
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def main():
    device = open_device()
    puppet = Puppet(device)
    pending = b""
    say({"ready": {family: address for family, (address, _) in NEAR_ADDRESSES.items()}})
    while True:
        ready, _, _ = select.select([0, device], [], [], 0 if puppet.flood else None)
        if device in ready:
            puppet.hear()
        if 0 in ready:
            received = os.read(0, 65536)
            if not received:
                return
            *lines, pending = (pending + received).split(b"\n")
            for line in lines:
                order = json.loads(line)
                try:
                    reply = puppet.obey(order)
                except (KeyError, OSError, RuntimeError) as error:
                    reply = {"error": f"{order.get('do')}: {error!r}"}
                if reply is not None:
                    say({"id": order["id"], **reply})
        if puppet.flood:
            puppet.continue_flood()


if __name__ == "__main__":
    main()
