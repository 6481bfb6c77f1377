/**
 * HTTP/2 during a drain: the client is told to open no more streams, and the session ends when those it has are done.
 *
 * A stream that the client opens before it has read the GOAWAY is refused by it. Therefore RFC 9113 (section 6.8) has
 * the server announce the end first, by a GOAWAY that refuses nothing, and close when a PING that followed it comes
 * back. Node cannot say that: nghttp2 ignores new streams after any GOAWAY but that of nghttp2_submit_shutdown_notice(),
 * which Node does not offer (`session.goaway(0, 2 ** 31 - 1)` leaves such streams without an answer). So on a plain
 * connection the notice is written as the seventeen bytes it is. Node writes whole frames, and libuv sends writes in
 * their order, so that they come between two frames. On an encrypted connection two writers at a time would abort the
 * process (TLSWrap::DoWrite); there the session is closed at once. The streams that this refuses have not been
 * processed, the client knows it (section 8.7), and browsers and most other clients open them again elsewhere.
 */
import type { ServerHttp2Session } from 'node:http2';
import type { OpenSocket } from './connections.js';

/** Length 8, type GOAWAY, no flags, stream 0; the last stream is the highest there can be, the code NO_ERROR. */
const NOTICE = Buffer.from('0000080700000000007fffffff00000000', 'hex');

/** Milliseconds for the client's part: one that is further away, or silent, does not hold the end up. */
const ROUND_TRIP = 1000;

const closing = new WeakSet<ServerHttp2Session>();

export function closeSession(session: ServerHttp2Session, socket: OpenSocket | undefined): void {
  if (closing.has(session) || isOver(session)) return;
  closing.add(session);
  const close = () => {
    if (!isOver(session)) session.close();
  };
  if (socket && !('encrypted' in socket)) announce(session, socket, close);
  // A client has connected in order to ask something: what it asks first is on its way.
  else if (session.state.lastProcStreamID === 0) session.once('stream', close);
  else close();
  setTimeout(close, ROUND_TRIP).unref();
}

function announce(session: ServerHttp2Session, socket: OpenSocket, close: () => void): void {
  const write = () => {
    if (isOver(session) || !socket.writable) return;
    socket.write(NOTICE);
    session.ping(close);
  };
  // The first frame of a server has to be its SETTINGS; when the client has acknowledged them it is.
  if (session.pendingSettingsAck) session.once('localSettings', write);
  else write();
}

const isOver = (session: ServerHttp2Session): boolean => session.closed || session.destroyed;
