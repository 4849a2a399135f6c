// A dashboard as the vendor's post shows it; only the host and the credentials are arguments. The post's requests are
// made with fetch; its JavaScript (seed_socket.js) runs word for word, with the functions that it leaves to its reader.
// Prints one JSON line for each thing it would draw; ends after the number of events that is asked for (0: never).
import { readFileSync } from "node:fs";

const [root, clientId, clientSecret, wanted] = process.argv.slice(2);
const say = (what, value) => console.log(JSON.stringify({ what, value }));
let left = Number(wanted);
const count = () => { if (--left === 0) process.exit(0); };

const theirs = {
  updateVehicleMarker: (event) => { say("updateVehicleMarker", event); count(); },
  markVehicleOffline: (vehicleId, lastSeenAt) => { say("markVehicleOffline", { vehicleId, lastSeenAt }); count(); },
  markStreamHealthy: (sentAt) => say("markStreamHealthy", sentAt),
  scheduleReconnect: () => { say("scheduleReconnect", null); process.exit(0); },
  console: {
    log: (...said) => (said[0] === "Stream session" ? say("connected", said[1]) : say("open", said[0])),
    warn: (...said) => say("error", said.slice(1)),
  },
};

const token = await (await fetch(`${root}/oauth/token`, {
  method: "POST",
  headers: { Authorization: "Basic " + btoa(`${clientId}:${clientSecret}`) },
  body: new URLSearchParams({ grant_type: "client_credentials", scope: "read" }),
})).json();
const headers = { Authorization: `Bearer ${token.access_token}`, "Content-Type": "application/json" };
const base = `${root}/services/rest/v3`;
say("lastPositions", await (await fetch(`${base}/vehicles/lastPositions?limit=50`, { headers })).json());
const stream = await (await fetch(`${base}/vehicles/livePositions/stream`, {
  method: "POST",
  headers,
  body: JSON.stringify({ includeSharedVehicles: true, minIntervalSeconds: 5 }),
})).json();
say("stream", stream);

const code = readFileSync(new URL("seed_socket.js", import.meta.url), "utf8");
new Function("stream", ...Object.keys(theirs), code)(stream, ...Object.values(theirs));
