// A dashboard as the vendor's post shows it; only the host and the credentials are arguments.
// Prints one JSON line for each thing it would draw; ends after the number of events that is asked for.
const [root, clientId, clientSecret, wanted] = process.argv.slice(2);
const say = (what, value) => console.log(JSON.stringify({ what, value }));
let left = Number(wanted);
const count = () => { if (--left === 0) process.exit(0); };

const updateVehicleMarker = (event) => { say("updateVehicleMarker", event); count(); };
const markVehicleOffline = (vehicleId, lastSeenAt) => { say("markVehicleOffline", { vehicleId, lastSeenAt }); count(); };
const markStreamHealthy = (sentAt) => say("markStreamHealthy", sentAt);
const scheduleReconnect = () => { say("scheduleReconnect", null); process.exit(0); };

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

const socket = new WebSocket(stream.websocketUrl);

socket.addEventListener("open", () => {
  say("open", "Live position stream connected");
});

socket.addEventListener("message", (message) => {
  const event = JSON.parse(message.data);

  switch (event.type) {
    case "connected":
      say("connected", event.streamId);
      break;
    case "vehicle.position.updated":
      updateVehicleMarker(event);
      break;
    case "vehicle.offline":
      markVehicleOffline(event.vehicleId, event.lastSeenAt);
      break;
    case "heartbeat":
      markStreamHealthy(event.sentAt);
      break;
    case "error":
      say("error", [event.code, event.message]);
      break;
  }
});

socket.addEventListener("close", () => {
  scheduleReconnect();
});
