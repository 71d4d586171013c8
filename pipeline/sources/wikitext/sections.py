"""Sections at the end of an article that list links and sources, by language: their headings, in lower case.

From wikimedia/pywikibot 31c4e3f (scripts/noreferences.py), dbpedia/extraction-framework (HomepageExtractorConfig) and
cristinae/WikiTailor d541df0; languages after `ko` from the articles themselves.
"""
# ruff: noqa: E501

from __future__ import annotations

__all__ = ["SECTIONS"]

_TABLE = """
en|Bibliography;Citations;External links;Footnotes;Further reading;Gallery;Notes;Notes and references;References;See also;Sources;Works cited
de|Siehe auch;Einzelnachweise;Anmerkungen;Belege;Fußnoten;Quellen;Literatur;Weblinks;Galerie;Einzelnachweise und Anmerkungen
fr|Voir aussi;Articles connexes;Notes et références;Références;Notes;Bibliographie;Liens externes;Lien externe;Annexes
es|Véase también;Referencias;Notas;Bibliografía;Enlaces externos;Galería;Notas y referencias
it|Voci correlate;Vedi anche;Note;Riferimenti;Bibliografia;Altri progetti;Collegamenti esterni
pt|Ver também;Veja também;Referências;Notas;Bibliografia;Ligações externas;Notas e referências
nl|Zie ook;Referenties;Noten;Voetnoten;Bronnen;Literatuur;Externe links;Externe link
pl|Zobacz też;Przypisy;Uwagi;Bibliografia;Linki zewnętrzne
ru|См. также;Примечания;Сноски;Источники;Литература;Ссылки
uk|Див. також;Примітки;Виноски;Джерела;Література;Посилання
sv|Se även;Referenser;Noter;Källor;Vidare läsning;Externa länkar;Litteratur
tr|Ayrıca bakınız;Kaynakça;Notlar;Dış bağlantılar
vi|Xem thêm;Tham khảo;Chú thích;Ghi chú;Đọc thêm;Liên kết ngoài
id|Lihat pula;Referensi;Catatan kaki;Bacaan lanjutan;Pranala luar
ar|انظر أيضا;انظر أيضًا;مراجع;المراجع;مصادر;المصادر;ملاحظات;وصلات خارجية
fa|جستارهای وابسته;منابع;پانویس;پیوند به بیرون
he|ראו גם;הערות שוליים;לקריאה נוספת;קישורים חיצוניים
ja|関連項目;脚注;出典;注釈;参考文献;外部リンク
zh|参见;參見;参看;參看;参考资料;參考資料;注释;註釋;参考文献;參考文獻;外部链接;外部連結;外部鏈接;脚注;腳註
ko|같이 보기;각주;주석;참고 문헌;참고문헌;외부 링크;바깥 고리;함께 보기
ca|Vegeu també;Referències;Notes;Bibliografia;Enllaços externs
fi|Katso myös;Lähteet;Viitteet;Kirjallisuutta;Aiheesta muualla
cs|Související články;Reference;Poznámky;Literatura;Externí odkazy
hu|Lásd még;Kapcsolódó szócikkek;Jegyzetek;Források;Irodalom;További információk;Külső hivatkozások
ro|Vezi și;Note;Referințe;Bibliografie;Lectură suplimentară;Legături externe
da|Se også;Referencer;Noter;Kilder;Litteratur;Eksterne henvisninger
no|Se også;Referanser;Noter;Kilder;Litteratur;Eksterne lenker
nn|Sjå òg;Referansar;Fotnotar;Kjelder;Litteratur;Bakgrunnsstoff
bg|Вижте също;Източници;Бележки;Литература;Външни препратки;Външни връзки;Бележки и източници
el|Δείτε επίσης;Παραπομπές;Σημειώσεις;Πηγές;Βιβλιογραφία;Εξωτερικοί σύνδεσμοι
hi|इन्हें भी देखें;सन्दर्भ;संदर्भ;टिप्पणियाँ;बाहरी कड़ियाँ
bn|আরও দেখুন;তথ্যসূত্র;টীকা;বহিঃসংযোগ
th|ดูเพิ่ม;อ้างอิง;หมายเหตุ;เชิงอรรถ;แหล่งข้อมูลอื่น
sr|Види још;Vidi još;Референце;Reference;Напомене;Извори;Литература;Literatura;Спољашње везе;Spoljašnje veze
sh|Povezano;Vidi još;Vidi također;Reference;Izvori;Literatura;Vanjske veze;Spoljašnje veze;Vanjske poveznice
hr|Vidi još;Izvori;Bilješke;Literatura;Vanjske poveznice
bs|Također pogledajte;Reference;Literatura;Vanjski linkovi
sk|Pozri aj;Referencie;Poznámky;Literatúra;Externé odkazy
sl|Glej tudi;Sklici;Opombe;Viri;Literatura;Zunanje povezave
lt|Taip pat skaitykite;Šaltiniai;Išnašos;Literatūra;Nuorodos
lv|Skatīt arī;Atsauces;Literatūra;Ārējās saites
ltg|Nūruodis;Literatura;Uorejuos saitys;Verīs taipoš
et|Vaata ka;Viited;Allikad;Kirjandus;Välislingid
eu|Ikus, gainera;Erreferentziak;Oharrak;Bibliografia;Kanpo estekak
gl|Véxase tamén;Notas;Bibliografía;Outros artigos;Ligazóns externas
eo|Vidu ankaŭ;Referencoj;Notoj;Literaturo;Eksteraj ligiloj
ms|Lihat juga;Rujukan;Catatan;Bacaan lanjut;Pautan luar
hy|Տես նաև;Ծանոթագրություններ;Աղբյուրներ;Գրականություն;Արտաքին հղումներ
be|Гл. таксама;Зноскі;Крыніцы;Літаратура;Спасылкі
kk|Дереккөздер;Сілтемелер;Тағы қараңыз
tt|Искәрмәләр;Чыганаклар;Әдәбият;Сылтамалар;Шулай ук карагыз
ce|Билгалдахарш;Хьажоргаш;Литература;Хьажа кхин а
ur|مزید دیکھیے;حوالہ جات;بیرونی روابط
la|Nexus interni;Notae;Bibliographia;Nexus externi
ceb|Ang mga gi basihan niini;Mga kasarigan;Mga sumpay sa gawas
ta|மேற்கோள்கள்;இவற்றையும் பார்க்க;வெளி இணைப்புகள்
"""

SECTIONS = {
    code: frozenset(heading.casefold() for heading in headings.split(";"))
    for code, headings in (line.split("|") for line in _TABLE.strip().splitlines())
}
"""Headings, casefolded, by the code of a wiki's language."""
