const socket = new WebSocket(stream.websocketUrl);

socket.addEventListener("open", () => {
  console.log("Live position stream connected");
});

socket.addEventListener("message", (message) => {
  const event = JSON.parse(message.data);

  switch (event.type) {
    case "connected":
      console.log("Stream session", event.streamId);
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
      console.warn("Live stream error", event.code, event.message);
      break;
  }
});

socket.addEventListener("close", () => {
  scheduleReconnect();
});
