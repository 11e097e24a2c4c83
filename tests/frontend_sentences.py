"""Plain English sentences and a way to call from many threads, for tests that compare frontends."""

import random
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["HELD_OUT", "SENTENCES", "in_threads", "random_sentences"]

SENTENCES = """\
The quick brown fox jumps over the lazy dog.
Hello world, how are you today?
She sells sea shells by the sea shore.
I would like to order a cup of coffee and a piece of cake, please.
The weather tomorrow will be mostly sunny with a few clouds in the afternoon.
He has been working on this problem for more than twenty years.
What time does the next train to Boston leave?
Please open the window; it is getting very warm in here.
They went to the market, bought some apples, and came home.
The children were playing in the garden when it started to rain.
Our neighbours bought a little yellow house near the river.
Can you believe that nobody noticed the difference?
Music is the universal language of mankind.
It was the best of times, it was the worst of times.
A journey of a thousand miles begins with a single step.
The government announced a new policy on renewable energy.
Never before had the old library seemed so quiet.
You should not have told him about the surprise party!
The doctor said that I need to exercise regularly and drink more water.
There were several reasons for the unexpected delay.
My brother and his wife are visiting us next weekend.
We drove through the mountains and stopped at a small village.
The price of the house was higher than we had expected.
Artificial intelligence is changing the way people work.
I can't remember where I left my keys.
Do you know the story of the tortoise and the hare?
The museum is open from nine in the morning until five in the evening.
He quickly realized that something was terribly wrong.
The teacher asked the students to write a short essay about their favourite animal.
An interesting article about history appeared in the newspaper.
Water freezes at zero degrees and boils at one hundred degrees.
She picked up the phone and called her mother immediately.
If you want to succeed, you have to practise every single day.
The orchestra performed a beautiful symphony by Beethoven.
After dinner, we sat on the balcony and looked at the stars.
The little girl laughed because the puppy was chasing its own tail.
Thousands of people gathered in the square to celebrate the victory.
For a moment nobody spoke, and then everybody spoke at once.
The bottle of water was better than the butter on the table.
It is important to understand the nature of the question before answering.
Every morning the baker opens his shop at six and sells warm bread to the people of the village.
I had a feeling that something was about to happen, but I could not say what it was.
The committee will announce its decision at the end of the week.
When we arrived at the station, the last train had already left.
She told us a story about an old man who lived in a lighthouse.
Have you ever been to the other side of the island?
More than a hundred people were waiting in front of the theatre.
There was a strange noise in the kitchen, so I went downstairs to have a look.
My favorite season is autumn because the leaves turn red and yellow.
He put the letter in an envelope and wrote the address on it.
The captain ordered the crew to lower the sails before the storm.
It would have been better to ask for help earlier.
Scientists have discovered a new species of butterfly in the Amazon.
Could you tell me how to get to the nearest hospital?
We are going to paint the bedroom walls light blue.
The old clock on the wall stopped at half past four.
You must not forget to water the plants in the evening.
Her daughter is studying medicine at a university in Italy.
No one knew the answer, and nobody dared to ask.
They have been friends for as long as I can remember.
Our team won the game after a long and difficult season.
Honestly, I am not sure that it is a good idea.
The river runs through a deep valley between two mountains.
If it does not rain tomorrow, we will have a picnic in the park.
That is one of the most beautiful pictures I have ever seen.
A small boy with a red umbrella crossed the empty street.
Please do not touch anything in this room until the police arrive.
The company has reduced its prices by ten percent.
Everything that he owned was in a single suitcase.
At once the crowd became silent, and the speaker began.
""".splitlines()

# Written after the rules, and never looked at to make one.
HELD_OUT = """\
The train to the coast leaves from the platform on the other side.
An engineer explained how the bridge had been built over a hundred years ago.
We have never seen anything as strange as that animal in our garden.
You can borrow my umbrella if you promise to bring it back.
Winter evenings are long, but they are also quiet and warm by the fire.
After all, it was not a matter of money.
The actor answered every question of the audience with great patience.
In the beginning nobody understood what the old map was for.
Their house is near a forest, and there are always birds in the trees.
She had to carry the heavy boxes up a narrow stair on her own.
He asked whether it would rain in the afternoon or not.
Fresh air and enough sleep are better than any medicine.
Somebody has taken the key that I left under the flower pot.
The university offers evening courses in history, art and economics.
I wonder if the people of this town are happy with their mayor.
A piece of paper was lying on the floor in front of the door.
My uncle used to be a sailor before he opened a restaurant.
The result of the election surprised all of us.
Let us meet at eight in the lobby of the hotel.
Only a few of the students could solve the last exercise in an hour.
""".splitlines()

_COMMON = sorted({word.strip(".,;?!") for sentence in SENTENCES for word in sentence.split()})
_ODD = """\
vs Vs co Co. dr Dr. Mr. mrs Mrs. Ms. st St. Mt. Jr. Ltd. etc etc. e.g. p.m. II VI X I A B A. I. TV USA OK NASA
co-op x-ray X-ray X-RAY e-mail T-shirt o'clock O'Brien rock-'n'-roll dogs' 'tis 'em 'twas y'all hafþór josé
naïve mother-in-law's - -- asap a/b 5 3rd -s s- 's n't AAAH sooooo
"""
_BEFORE = ['"', "'", "(", '("', "\"'", "[", "*"]
_AFTER = """, , , , ; : . ! ? " ' ) ), ", ', ." .) !" ?' )" 's 'S ?! ... ,, '. '?"""


def random_sentences(words: Iterable[str], heteronyms: Iterable[str], *, seed: int) -> Iterator[str]:
    """Give sentences without end: words in any order, with quotes, marks, hyphens and capitals anywhere.

    Parameters
    ----------
    words, heteronyms : iterable of str
        Of a lexicon: all words, and those whose part of speech tells how they are said.
    seed : int
    """
    rng = random.Random(seed)
    rare, heteronyms = sorted(words), sorted(heteronyms)
    odd, after = _ODD.split(), _AFTER.split()

    def token() -> str:
        (kind,) = rng.choices((_COMMON, rare, heteronyms, odd), (50, 30, 12, 4))
        word = rng.choice(kind)
        if rng.random() < 0.05:
            word = f"{word}-{rng.choice(rng.choice((_COMMON, rare)))}"
        if rng.random() < 0.03:  # one that the lexicon lacks
            word = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz'", k=rng.randint(1, 6)))
        if rng.random() < 0.15:
            word = rng.choice((word.capitalize(), word.capitalize(), word.title(), word.upper()))
        before = rng.choice(_BEFORE) if rng.random() < 0.03 else ""
        return before + word + (rng.choice(after) if rng.random() < 0.13 else "")

    while True:
        sentence = " ".join(token() for _ in range(rng.randint(1, 14)))
        yield sentence + rng.choice((".", ".", "!", "?", "", '."', ".)", "'"))


def in_threads(calls: Sequence[Callable[[], None]]) -> None:
    """Make all calls at once, each in a thread of its own, with the threads switched very often."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=call) for call in calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
