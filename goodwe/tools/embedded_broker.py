"""An MQTT broker for the demo, on a port of this machine: python3 embedded_broker.py PORT."""

import asyncio
import sys


async def serve(port: int) -> None:
    """Serve anybody on the loopback address until cancelled."""
    from amqtt.broker import Broker  # of the demo extra

    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    await broker.start()
    try:
        await asyncio.Event().wait()
    finally:
        await broker.shutdown()


if __name__ == "__main__":
    try:
        asyncio.run(serve(int(sys.argv[1])))
    except KeyboardInterrupt:
        sys.exit(0)
