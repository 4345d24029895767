"""The theme's search finds chapters."""


def test_search_for_responsibility_finds_chapter_one(site, new_page):
    page = new_page()
    page.goto(f"{site}/search.html?q=responsibility")
    page.locator("#search-results li a").first.wait_for()
    found = page.locator("#search-results li a").evaluate_all("links => links.map(a => a.pathname)")
    assert "/book/01_one_neuron.html" in found
