"""English as it is written, and as a person reads it aloud: what is before the bar, and what behind it."""

# ruff: noqa: RUF001 - the look-alikes of ASCII are meant

__all__ = ["READ", "rows"]

READ = r"""\
It costs $500.|It costs five hundred dollars.
It costs $3.50.|It costs three dollars fifty cents.
It costs $1.|It costs one dollar.
It costs $0.50.|It costs fifty cents.
It costs $0.99 now.|It costs ninety nine cents now.
It made $1.5 million last year.|It made one point five million dollars last year.
It made $2 billion.|It made two billion dollars.
It made $1.5M.|It made one point five million dollars.
It made $3bn.|It made three billion dollars.
It made $20k.|It made twenty thousand dollars.
A $500 fine|A five hundred dollar fine
It costs €20.|It costs twenty euros.
It costs 20€.|It costs twenty euros.
It costs £5.|It costs five pounds.
It costs £3.50.|It costs three pounds fifty pence.
It costs ¥300.|It costs three hundred yen.
It costs $1,234.56.|It costs one thousand two hundred thirty four dollars fifty six cents.
It costs -$5.|It costs minus five dollars.
It costs US$5.|It costs five US dollars.
It costs 5 USD.|It costs five US dollars.
It costs 50¢.|It costs fifty cents.
It costs $10-20.|It costs ten to twenty dollars.
World War II ended.|World War two ended.
Henry VIII was king.|Henry the eighth was king.
Queen Elizabeth II died.|Queen Elizabeth the second died.
Chapter IV begins.|Chapter four begins.
Louis XIV of France|Louis the fourteenth of France
Part III is long.|Part three is long.
The XIV amendment|The fourteen amendment
Pope John Paul II spoke.|Pope John Paul the second spoke.
Final Fantasy VII is old.|Final Fantasy seven is old.
Type II diabetes|Type two diabetes
Super Bowl LIV|Super Bowl fifty four
I think so.|I think so.
Vitamin C helps.|Vitamin C helps.
Malcolm X spoke.|Malcolm X spoke.
Martin Luther King Jr. spoke.|Martin Luther King junior spoke.
Sammy Davis Jr.|Sammy Davis junior.
Mr. Smith met Dr. Jones.|mister Smith met doctor Jones.
Prof. Lee met Gen. Grant.|professor Lee met general Grant.
He lives on Elm St. near the lake.|He lives on Elm Street near the lake.
5th Ave. is busy.|fifth avenue is busy.
Acme Inc. grew.|Acme incorporated grew.
Acme Corp. grew.|Acme corporation grew.
Acme Co. grew.|Acme company grew.
Acme Ltd. grew.|Acme limited grew.
Fruit, e.g. apples, is good.|Fruit, for example apples, is good.
A vs. B|A versus B
approx. five men|approximately five men
the dept. of health|the department of health
He is 5'10" tall.|He is five foot ten tall.
He is 5' tall.|He is five feet tall.
A 27" screen|A twenty seven inch screen
Take 5 µg daily.|Take five micrograms daily.
Take 5 mg daily.|Take five milligrams daily.
Take 5mg daily.|Take five milligrams daily.
He weighs 80kg.|He weighs eighty kilograms.
He weighs 80 kg.|He weighs eighty kilograms.
It is 10km away.|It is ten kilometers away.
It is 10 km away.|It is ten kilometers away.
It is 1 km away.|It is one kilometer away.
Drive 60 mph.|Drive sixty miles per hour.
Drive 100 km/h.|Drive one hundred kilometers per hour.
It is 5 cm long.|It is five centimeters long.
It is 5 mm long.|It is five millimeters long.
It is 6 ft tall.|It is six feet tall.
It is 6 in. tall.|It is six inches tall.
It weighs 5 lbs.|It weighs five pounds.
It weighs 5 lb and 3 oz.|It weighs five pounds and three ounces.
Add 250 ml of milk.|Add two hundred fifty milliliters of milk.
Add 2 L of milk.|Add two liters of milk.
A 16 GB card|A sixteen gigabyte card
It has 16GB.|It has sixteen gigabytes.
It has 512 MB.|It has five hundred twelve megabytes.
It runs at 3.5 GHz.|It runs at three point five gigahertz.
It runs at 440 Hz.|It runs at four hundred forty hertz.
It took 20 ms.|It took twenty milliseconds.
It took 5 min.|It took five minutes.
It took 5 sec.|It took five seconds.
It took 3 hrs.|It took three hours.
It is 20°C outside.|It is twenty degrees Celsius outside.
It is 20 °C outside.|It is twenty degrees Celsius outside.
It is 70°F outside.|It is seventy degrees Fahrenheit outside.
Turn 90° left.|Turn ninety degrees left.
A 100 m² flat|A one hundred square meter flat
It covers 50 km².|It covers fifty square kilometers.
A 60W bulb|A sixty watt bulb
It needs 5 kW.|It needs five kilowatts.
It needs 5 kWh.|It needs five kilowatt hours.
It needs 230 V.|It needs two hundred thirty volts.
It was -5 outside.|It was minus five outside.
It was −5 outside.|It was minus five outside.
It was -5.5 degrees.|It was minus five point five degrees.
Read pages 5-10.|Read pages five to ten.
Read pages 5–10.|Read pages five to ten.
From 2010-2015 he ran.|From twenty ten to twenty fifteen he ran.
The 1914–1918 war|The nineteen fourteen to nineteen eighteen war
It takes 3-4 days.|It takes three to four days.
They won 3-2.|They won three to two.
Add 3/4 cup.|Add three quarters cup.
Add 1/2 cup.|Add one half cup.
Add 1 1/2 cups.|Add one and a half cups.
Add 2/3 cup.|Add two thirds cup.
Add 1½ cups.|Add one and a half cups.
Open 24/7.|Open twenty four seven.
On 2024-05-06 we met.|On may sixth twenty twenty four we met.
On 5/6/2024 we met.|On may sixth twenty twenty four we met.
On May 6th we met.|On May sixth we met.
On May 6 we met.|On May sixth we met.
On May 6, 2024 we met.|On May sixth, twenty twenty four we met.
On 6 May 2024 we met.|On six May twenty twenty four we met.
On Jan. 5 we met.|On January fifth we met.
On Dec 25th we met.|On December twenty fifth we met.
In the 1990s he sang.|In the nineteen nineties he sang.
In the 90s he sang.|In the nineties he sang.
In the '90s he sang.|In the nineties he sang.
In the 2000s he sang.|In the two thousands he sang.
In the 1800s he sang.|In the eighteen hundreds he sang.
In 1999 he sang.|In nineteen ninety nine he sang.
In 2005 he sang.|In two thousand five he sang.
In 2024 he sang.|In twenty twenty four he sang.
In 1900 he sang.|In nineteen hundred he sang.
In 1066 he sang.|In ten sixty six he sang.
In 500 BC he sang.|In five hundred B C he sang.
He paid 2024 dollars.|He paid two thousand twenty four dollars.
We meet at 10:30.|We meet at ten thirty.
We meet at 10:00.|We meet at ten o'clock.
We meet at 10:05.|We meet at ten oh five.
We meet at 5pm.|We meet at five p m.
We meet at 5 pm.|We meet at five p m.
We meet at 5 p.m. today.|We meet at five p m today.
We meet at 5:30pm.|We meet at five thirty p m.
We meet at 5:30 PM.|We meet at five thirty p m.
We meet at 5:00 AM.|We meet at five A.M.
We meet at 17:05.|We meet at seventeen oh five.
We meet at 17:00.|We meet at seventeen hundred.
It took 1:23:45.|It took one twenty three forty five.
From 9am-5pm|From nine A.M. to five P.M.
Call 555-1234.|Call five five five, one two three four.
Call 555-123-4567.|Call five five five, one two three, four five six seven.
Call (555) 123-4567.|Call five five five, one two three, four five six seven.
Call +1 555 123 4567.|Call plus one, five five five, one two three, four five six seven.
Call 1-800-555-0199.|Call one, eight zero zero, five five five, zero one nine nine.
Call 911.|Call nine one one.
It rose 5%.|It rose five percent.
It rose 5.5%.|It rose five point five percent.
It rose 5 %.|It rose five percent.
He came 1st.|He came first.
He came 2nd.|He came second.
The 21st century|The twenty first century
The 100th day|The one hundredth day
The 42nd street|The forty second street
Version 1.2.3 is out.|Version one point two point three is out.
Use v2.0 now.|Use V two point zero now.
Python 3.12 is out.|Python three point one two is out.
He is #1.|He is number one.
Issue #42 is closed.|Issue number forty two is closed.
Salt & pepper|Salt and pepper
R&D is hard.|R and D is hard.
Meet me @ noon.|Meet me at noon.
Ask @john now.|Ask at john now.
Write to joe@example.com today.|Write to joe at example dot com today.
See example.com now.|See example dot com now.
See www.example.com now.|See W W W dot example dot com now.
See https://example.com now.|See example dot com now.
See https://example.com/docs now.|See example dot com slash docs now.
It is 3.14.|It is three point one four.
It is 0.5.|It is zero point five.
It is .5 or so.|It is zero point five or so.
It is 1e10.|It is one times ten to the ten.
It is 1.5e-3.|It is one point five times ten to the minus three.
It is 3×10⁵.|It is three times ten to the five.
It is 10^6.|It is ten to the six.
It is x².|It is x squared.
It is 10k.|It is ten thousand.
It has 10K users.|It has ten thousand users.
It has 5M users.|It has five million users.
It has 1,234 users.|It has one thousand two hundred thirty four users.
It has 1,234,567 users.|It has one million two hundred thirty four thousand five hundred sixty seven users.
It has 1000000 users.|It has one million users.
It has 12345 users.|It has twelve thousand three hundred forty five users.
Room 101 is empty.|Room one hundred one is empty.
It has 101 users.|It has one hundred one users.
5 + 3 = 8|five plus three equals eight
5 - 3 = 2|five minus three equals two
5 * 3 = 15|five times three equals fifteen
5 × 3 = 15|five times three equals fifteen
6 / 3 = 2|six divided by three equals two
6 ÷ 3 = 2|six divided by three equals two
5 > 3|five is greater than three
3 < 5|three is less than five
±5 percent|plus or minus five percent
~5 percent|about five percent
5x faster|five times faster
4x4 truck|four by four truck
A 10x20 grid|A ten by twenty grid
COVID-19 spread.|COVID nineteen spread.
The F-16 flew.|The F sixteen flew.
A MP3 file|A M P three file
The B2B market|The B two B market
In Q3 2024 it rose.|In Q three twenty twenty four it rose.
w/ sugar|with sugar
No. 5 is alive.|Number five is alive.
See Fig. 3 now.|See figure three now.
See p. 12 now.|See page twelve now.
See pp. 12-15 now.|See pages twelve to fifteen now.
See Vol. 2 now.|See volume two now.
See § 5 now.|See section five now.
It is ©2024.|It is copyright twenty twenty four.
It is 5 lbs., i.e. heavy.|It is five pounds, i.e. heavy.
The U.S. Army left.|The U S Army left.
The U.K. left.|The U K left.
The Ph.D. student|The P H D student
It is 007.|It is zero zero seven.
A 50/50 chance|A fifty fifty chance
He is 5 yrs old.|He is five years old.
a 5-year-old boy|a five year old boy
The 3rd-party app|The third party app
It is 1.5x.|It is one point five times.
20-30% of men|twenty to thirty percent of men
5–10 km away|five to ten kilometers away
-10°C to -5°C|minus ten degrees Celsius to minus five degrees Celsius
+5 points|plus five points
100+ users|one hundred plus users
It is A+.|It is A plus.
C++ and C#|C plus plus and C sharp
key=value|key equals value
snake_case name|snake case name
x_1 and y_2|x one and y two
a < b|a is less than b
10 p.m.|ten p m.
NO WAY!|no way!
THE END|the end
WE ARE IN.|we are in.
IT IS US!|it is us!
STOP|stop
The IT department|The IT department
the US army|the US army
I AM FINE.|I am fine.
OK, GO.|OK, go.
TV IS BAD FOR YOU.|TV is bad for you.
"""


def rows(table: str) -> list[tuple[str, str]]:
    """Part the lines of a table at their bars."""
    return [(written, read) for written, _, read in (line.partition("|") for line in table.splitlines())]
