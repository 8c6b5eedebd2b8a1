"""A person talks with the avatar in a browser: the page, its signalling, and what carries picture
and sound. An extra of this package: `pip install 'live-avatar-client[gateway]'`.
"""
