"""Whom we tell about HOT workers: a lazy table of registries, entry points for strangers.

A plug-in's package declares, in the group ``modelpool.registrars``, ``kind = "module:Class"``; the
class is called as ``Class(settings, pool_id, client)`` and follows ``base.Registrar``.
"""
