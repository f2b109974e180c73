import socket

from tokenomics_plugin.collector.address import bind


def test_answers_are_not_delayed_by_nagle_s_algorithm() -> None:
    # asyncio sets TCP_NODELAY only where it sees that a socket is TCP; else each answer takes 40 ms longer.
    with bind("127.0.0.1", 0, purpose="test") as bound:
        assert bound.proto == socket.IPPROTO_TCP
