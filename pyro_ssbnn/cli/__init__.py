"""The command line ``pyro-ssbnn``: fit, look, prune, predict. The only room that knows all others.

``main`` holds the app; ``fit``, ``inspect`` and ``deploy`` the commands, which import the engine only when they run;
``run_folder`` the layout of what ``fit`` leaves behind.
"""
