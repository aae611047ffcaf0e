from jobs.names import composed, few, printable


def test_names_print_on_one_line_whatever_they_hold():
    told = {
        "plain café 日本語": "plain café 日本語",
        "a\nb\tc\r": "a\\nb\\tc\\r",
        "\x1b[31mred\x07": "\\x1b[31mred\\x07",
        "\u202etxt.exe": "\\u202etxt.exe",
        "\udcff\ud800": "\\udcff\\ud800",
        "": "",
    }
    for name, shown in told.items():
        assert printable(name) == shown
        shown.encode()


def test_few_and_composed():
    assert few([]) == "none" and few(["a", "b\n"]) == "a, b\\n" and few("abcd", 2) == "a, b and 2 more"
    assert composed("cafe\u0301") == composed("caf\u00e9") == "caf\u00e9"
