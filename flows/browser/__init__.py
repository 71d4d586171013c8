"""What runs in a browser: the chat page that is served, and the folder that runs a model on one's own device."""

from pathlib import Path

CHAT_PAGE = Path(__file__).parent / "chat_page"
"""The chat page's files; `api.js` among them asks a server."""
DEVICE_PAGE = Path(__file__).parent / "device_page"
"""What takes the place of, or stands beside, the chat page's files where the model runs in the page itself."""
