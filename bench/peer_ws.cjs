// Node's ws as a fan-out server: every POST's body to every client. node peer_ws.cjs PATH_OF_WS PORT
'use strict';
const http = require('node:http');
const { WebSocketServer } = require(process.argv[2]);

const server = http.createServer((request, response) => {
  const parts = [];
  request.on('data', (part) => parts.push(part));
  request.on('end', () => {
    response.end();
    const payload = Buffer.concat(parts);
    for (const client of sockets.clients) client.send(payload, { binary: false });
  });
});
const sockets = new WebSocketServer({ server, perMessageDeflate: false });
server.keepAliveTimeout = 0;
server.listen(Number(process.argv[3]), '127.0.0.1');
