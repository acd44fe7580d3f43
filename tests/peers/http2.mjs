// The Node end of the tests: an HTTP/2 server and a client of everything that node:http2 can do.
//
// node http2.mjs serve PORT
// node http2.mjs call PORT     prints JSON lines of what it counted
import { once } from 'node:events';
import http2 from 'node:http2';

const { constants } = http2;
const HELLO = 'hello world\n';

function serve(port) {
    const server = http2.createServer({ settings: { enableConnectProtocol: true } });
    server.on('stream', async (stream, headers) => {
        stream.on('error', () => {});
        const path = headers[':path'].split('?')[0];
        const [, kind, argument] = path.split('/');
        if (headers[':method'] === 'CONNECT') {
            stream.respond({ ':status': 200 });
            stream.pipe(stream);
        } else if (kind === 'echo') {
            stream.respond({ ':status': 200 });
            stream.pipe(stream);
        } else if (kind === 'count') {
            let length = 0;
            for await (const piece of stream) length += piece.length;
            stream.respond({ ':status': 200 });
            stream.end(String(length).padStart(12, '0'));
        } else if (kind === 'bytes') {
            stream.respond({ ':status': 200 });
            stream.end(Buffer.alloc(Number(argument)));
        } else if (kind === 'status') {
            stream.respond({ ':status': Number(argument) }, { endStream: true });
        } else if (kind === 'trailers') {
            stream.respond({ ':status': 200 }, { waitForTrailers: true });
            stream.on('wantTrailers', () => stream.sendTrailers({ 'x-sum': '12' }));
            stream.end(HELLO);
        } else if (kind === 'hint') {
            stream.additionalHeaders({ ':status': 103, link: '</style.css>; rel=preload' });
            stream.additionalHeaders({ ':status': 103, link: '</more.css>; rel=preload' });
            stream.respond({ ':status': 200 });
            stream.end(HELLO);
        } else if (kind === 'push') {
            stream.pushStream({ ':path': '/pushed.css' }, (error, pushed) => {
                if (error) throw error;
                pushed.on('error', () => {});
                pushed.respond({ ':status': 200 });
                pushed.end('body {}\n');
                stream.respond({ ':status': 200 });
                stream.end(HELLO);
            });
        } else if (kind === 'abort') {
            stream.respond({ ':status': 200 });
            stream.write(HELLO, () => stream.close(constants.NGHTTP2_INTERNAL_ERROR));
        } else if (kind === 'refuse') {
            stream.close(constants.NGHTTP2_REFUSED_STREAM);
        } else if (kind === 'wait') {
            // Answered by nothing but the client's reset.
            stream.respond({ ':status': 200 });
            stream.write(HELLO);
        } else if (kind === 'slow') {
            // Answered after so many milliseconds.
            setTimeout(() => {
                stream.respond({ ':status': 200 });
                stream.end(HELLO);
            }, Number(argument));
        } else if (kind === 'goaway') {
            stream.respond({ ':status': 200 });
            stream.end(HELLO);
            stream.session.goaway(constants.NGHTTP2_NO_ERROR, stream.id);
        } else {
            stream.respond({ ':status': 200, 'content-type': 'text/plain' });
            stream.end(headers[':method'] === 'HEAD' ? undefined : HELLO);
        }
    });
    server.listen(port, '127.0.0.1');
}

const counts = new Map();

function count(record) {
    const key = JSON.stringify(record);
    counts.set(key, (counts.get(key) ?? 0) + 1);
}

// One exchange: what it should be reported as, by what this client sees of it.
async function ask(session, method, path, body, options = {}) {
    const headers = { ':method': method, ':path': path, ...options.headers };
    const stream = session.request(headers, { endStream: body === undefined });
    const record = {
        method,
        path: path.split('?')[0],
        status: null,
        outcome: 'complete',
        request_body_bytes: body?.length ?? 0,
        response_body_bytes: 0,
        pushed: false,
        reset_code: null,
    };
    stream.on('response', (head) => { record.status = head[':status']; });
    stream.on('data', (piece) => {
        record.response_body_bytes += piece.length;
        if (options.cancel) stream.close(constants.NGHTTP2_CANCEL);
    });
    stream.on('error', () => {});
    if (body !== undefined) stream.end(body);
    if (!stream.closed) await once(stream, 'close').catch(() => {});
    if (stream.rstCode !== 0) {
        record.reset_code = stream.rstCode;
        record.outcome = options.outcome;
    } else if (options.outcome) {
        record.outcome = options.outcome;
    }
    if (method === 'CONNECT') {
        // A tunnel is told when it begins; what passes through it is no content, but node may
        // have sent its bytes before.
        if (record.response_body_bytes !== body.length) throw new Error('the tunnel lost bytes');
        delete record.request_body_bytes;
        record.response_body_bytes = 0;
    }
    count(record);
}

async function call(port) {
    const url = `http://127.0.0.1:${port}`;
    const sessions = [http2.connect(url), http2.connect(url)];
    // Extended CONNECT is allowed by the server's settings.
    await Promise.all(sessions.map((session) => once(session, 'remoteSettings')));
    for (const session of sessions) {
        session.on('stream', (pushed, headers) => {
            const record = {
                method: headers[':method'],
                path: headers[':path'],
                status: null,
                outcome: 'complete',
                request_body_bytes: 0,
                response_body_bytes: 0,
                pushed: true,
                reset_code: null,
            };
            pushed.on('push', (head) => { record.status = head[':status']; });
            pushed.on('data', (piece) => { record.response_body_bytes += piece.length; });
            pushed.on('close', () => count(record));
        });
    }
    const small = Buffer.alloc(1000, 'q');
    const large = Buffer.alloc(300_000, 'q');
    const all = [];
    for (let round = 0; round < 20; round += 1) {
        for (const session of sessions) {
            all.push(ask(session, 'GET', '/hello'));
            all.push(ask(session, 'GET', `/hello/${round}?token=secret`));
            all.push(ask(session, 'HEAD', '/hello'));
            all.push(ask(session, 'POST', '/echo', small));
            all.push(ask(session, 'PUT', '/count', large));
            all.push(ask(session, 'GET', '/bytes/200000'));
            all.push(ask(session, 'GET', '/status/404'));
            all.push(ask(session, 'DELETE', '/status/204'));
            all.push(ask(session, 'GET', '/trailers'));
            all.push(ask(session, 'GET', '/hint'));
            all.push(ask(session, 'GET', '/push'));
            all.push(ask(session, 'GET', '/abort', undefined, { outcome: 'server_aborted' }));
            all.push(ask(session, 'GET', '/refuse', undefined, { outcome: 'refused' }));
            all.push(ask(session, 'GET', '/wait', undefined,
                { outcome: 'client_aborted', cancel: true }));
        }
        await Promise.all(all);
    }
    await Promise.all(sessions.map((session) => ask(session, 'CONNECT', '/socket', small, {
        headers: { ':protocol': 'websocket', ':scheme': 'http', ':authority': '127.0.0.1' },
        outcome: 'tunnel',
    })));
    await Promise.all(sessions.map((session) => ask(session, 'GET', '/goaway')));
    for (const session of sessions) session.destroy();
    const lines = [...counts].map(([key, number]) => (
        `${JSON.stringify({ ...JSON.parse(key), count: number })}\n`
    ));
    // A server that said GOAWAY does not always close its end, and node would wait for that.
    process.stdout.write(lines.join(''), () => process.exit(0));
}

const [, , mode, port] = process.argv;
if (mode === 'serve') serve(Number(port));
else await call(Number(port));
