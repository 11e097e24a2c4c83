"""Voices in the forms that other runtimes take."""

from balacoon_tk.export.deploy.voice import Deployed, deploy_voice

__all__ = ["Deployed", "deploy_voice"]
