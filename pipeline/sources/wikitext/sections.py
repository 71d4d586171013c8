"""Sections at the end of an article that list links and sources, by language: their headings, in lower case.

From wikimedia/pywikibot 31c4e3f (scripts/noreferences.py), dbpedia/extraction-framework (HomepageExtractorConfig) and
cristinae/WikiTailor d541df0; languages after `ko` from the articles themselves, as far as they are known to us.
"""
# ruff: noqa: E501

from __future__ import annotations

__all__ = ["SECTIONS"]

_TABLE = """
en|Bibliography;Citations;External links;Footnotes;Further reading;Gallery;Notes;Notes and references;References;See also;Sources;Works cited;Additional sources;Cited sources;Explanatory notes;External link;General references;Selected bibliography
de|Siehe auch;Einzelnachweise;Anmerkungen;Belege;Fußnoten;Quellen;Literatur;Weblinks;Galerie;Einzelnachweise und Anmerkungen;Weiterführende Literatur
fr|Voir aussi;Articles connexes;Notes et références;Références;Notes;Bibliographie;Liens externes;Lien externe;Annexes;Sources
es|Véase también;Referencias;Notas;Bibliografía;Enlaces externos;Galería;Notas y referencias;Fuentes;Lecturas adicionales;Enlace externo
it|Voci correlate;Vedi anche;Note;Riferimenti;Bibliografia;Altri progetti;Collegamenti esterni;Fonti
pt|Ver também;Veja também;Referências;Notas;Bibliografia;Ligações externas;Notas e referências;Fontes;Leitura adicional;Links externos
nl|Zie ook;Referenties;Noten;Voetnoten;Bronnen;Literatuur;Externe links;Externe link;Bronvermelding
pl|Zobacz też;Przypisy;Uwagi;Bibliografia;Linki zewnętrzne;Literatura
ru|См. также;Примечания;Сноски;Источники;Литература;Ссылки;Внешние ссылки;Комментарии;Библиография
uk|Див. також;Примітки;Виноски;Джерела;Література;Посилання;Зовнішні посилання;Бібліографія
sv|Se även;Referenser;Noter;Källor;Vidare läsning;Externa länkar;Litteratur;Fotnoter
tr|Ayrıca bakınız;Kaynakça;Notlar;Dış bağlantılar;Konuyla ilgili yayınlar
vi|Xem thêm;Tham khảo;Chú thích;Ghi chú;Đọc thêm;Liên kết ngoài;Nguồn
id|Lihat pula;Referensi;Catatan kaki;Bacaan lanjutan;Pranala luar;Daftar pustaka;Catatan;Lihat juga
ar|انظر أيضا;انظر أيضًا;مراجع;المراجع;مصادر;المصادر;ملاحظات;وصلات خارجية;هوامش
fa|جستارهای وابسته;منابع;پانویس;پیوند به بیرون;یادداشت‌ها
he|ראו גם;הערות שוליים;לקריאה נוספת;קישורים חיצוניים;מקורות
ja|関連項目;脚注;出典;注釈;参考文献;外部リンク;関連書籍;関連文献;参考資料;注;参照;外部サイト;註;註釈
zh|参见;參見;参看;參看;参考资料;參考資料;注释;註釋;参考文献;參考文獻;外部链接;外部連結;外部鏈接;脚注;腳註;延伸阅读;延伸閱讀;相关条目;相關條目;备注;備註;資料來源;资料来源;参照;參照
ko|같이 보기;각주;주석;참고 문헌;참고문헌;외부 링크;바깥 고리;함께 보기;출처;관련 항목;주해;내용주;참고 자료;더 읽어보기;바깥 링크;같이보기
ca|Vegeu també;Referències;Notes;Bibliografia;Enllaços externs
fi|Katso myös;Lähteet;Viitteet;Kirjallisuutta;Aiheesta muualla;Kirjallisuus
cs|Související články;Reference;Poznámky;Literatura;Externí odkazy;Odkazy
hu|Lásd még;Kapcsolódó szócikkek;Jegyzetek;Források;Irodalom;További információk;Külső hivatkozások;Bibliográfia
ro|Vezi și;Note;Referințe;Bibliografie;Lectură suplimentară;Legături externe;Referință
da|Se også;Referencer;Noter;Kilder;Litteratur;Eksterne henvisninger;Fodnoter
no|Se også;Referanser;Noter;Kilder;Litteratur;Eksterne lenker;Fotnoter
nn|Sjå òg;Referansar;Fotnotar;Kjelder;Litteratur;Bakgrunnsstoff
bg|Вижте също;Източници;Бележки;Литература;Външни препратки;Външни връзки;Бележки и източници
el|Δείτε επίσης;Παραπομπές;Σημειώσεις;Πηγές;Βιβλιογραφία;Εξωτερικοί σύνδεσμοι
hi|इन्हें भी देखें;सन्दर्भ;संदर्भ;टिप्पणियाँ;बाहरी कड़ियाँ;टिप्पणी;ग्रन्थसूची
bn|আরও দেখুন;তথ্যসূত্র;টীকা;বহিঃসংযোগ;গ্রন্থপঞ্জি
th|ดูเพิ่ม;อ้างอิง;หมายเหตุ;เชิงอรรถ;แหล่งข้อมูลอื่น;บรรณานุกรม
sr|Види још;Vidi još;Референце;Reference;Напомене;Извори;Литература;Literatura;Спољашње везе;Spoljašnje veze
sh|Povezano;Vidi još;Vidi također;Reference;Izvori;Literatura;Vanjske veze;Spoljašnje veze;Vanjske poveznice
hr|Vidi još;Izvori;Bilješke;Literatura;Vanjske poveznice;Povezani članci
bs|Također pogledajte;Reference;Literatura;Vanjski linkovi
sk|Pozri aj;Referencie;Poznámky;Literatúra;Externé odkazy;Iné projekty;Zdroj;Zdroje
sl|Glej tudi;Sklici;Opombe;Viri;Literatura;Zunanje povezave
lt|Taip pat skaitykite;Šaltiniai;Išnašos;Literatūra;Nuorodos
lv|Skatīt arī;Atsauces;Literatūra;Ārējās saites
ltg|Nūruodis;Literatura;Uorejuos saitys;Verīs taipoš
et|Vaata ka;Viited;Allikad;Kirjandus;Välislingid
eu|Ikus, gainera;Erreferentziak;Oharrak;Bibliografia;Kanpo estekak
gl|Véxase tamén;Notas;Bibliografía;Outros artigos;Ligazóns externas;Ver tamén;Referencias
eo|Vidu ankaŭ;Referencoj;Notoj;Literaturo;Eksteraj ligiloj;Fontoj;Bibliografio
ms|Lihat juga;Rujukan;Catatan;Bacaan lanjut;Pautan luar;Nota
hy|Տես նաև;Ծանոթագրություններ;Աղբյուրներ;Գրականություն;Արտաքին հղումներ
be|Гл. таксама;Зноскі;Крыніцы;Літаратура;Спасылкі;Гл. яшчэ;Бібліяграфія
kk|Дереккөздер;Сілтемелер;Тағы қараңыз;Сыртқы сілтемелер
tt|Искәрмәләр;Чыганаклар;Әдәбият;Сылтамалар;Шулай ук карагыз
ce|Билгалдахарш;Хьажоргаш;Литература;Хьажа кхин а
ur|مزید دیکھیے;حوالہ جات;بیرونی روابط
la|Nexus interni;Notae;Bibliographia;Nexus externi
ceb|Ang mga gi basihan niini;Mga kasarigan;Mga sumpay sa gawas
simple|Related pages;References;Other websites;Notes;Sources;Further reading;More reading;Bibliography
te|ఇవి కూడా చూడండి;మూలాలు;బయటి లింకులు;వనరులు
ml|ഇതും കാണുക;അവലംബം;പുറത്തേക്കുള്ള കണ്ണികൾ;കുറിപ്പുകൾ
mr|हे सुद्धा पहा;संदर्भ;बाह्य दुवे;संदर्भ आणि नोंदी
gu|આ પણ જુઓ;સંદર્ભો;બાહ્ય કડીઓ
kn|ಇವನ್ನೂ ನೋಡಿ;ಉಲ್ಲೇಖಗಳು;ಬಾಹ್ಯ ಕೊಂಡಿಗಳು
pa|ਇਹ ਵੀ ਦੇਖੋ;ਹਵਾਲੇ;ਬਾਹਰੀ ਲਿੰਕ;ਬਾਹਰੀ ਕੜੀਆਂ
ne|सन्दर्भ;सन्दर्भहरू;बाह्य लिङ्कहरू;यो पनि हेर्नुहोस्
si|මේවාත් බලන්න;මූලාශ්‍ර;ආශ්‍රිත;බාහිර සබැඳි
az|Həmçinin bax;İstinadlar;Xarici keçidlər;Mənbə;Mənbələr;Ədəbiyyat;Qeydlər
uz|Yana qarang;Manbalar;Havolalar;Adabiyotlar;Izohlar
ky|Дагы кара;Булактар;Колдонулган адабияттар;Шилтемелер
tg|Нигаред низ;Эзоҳ;Адабиёт;Пайвандҳо
mn|Мөн үзэх;Эшлэл;Ашигласан эх сурвалж;Гадаад холбоос
ka|იხილეთ აგრეთვე;სქოლიო;რესურსები ინტერნეტში;ლიტერატურა;წყაროები
mk|Поврзано;Наводи;Надворешни врски;Литература;Белешки
sq|Shiko edhe;Referime;Referimet;Lidhje të jashtme;Burimet;Literatura;Shënime
af|Sien ook;Verwysings;Eksterne skakels;Bronne;Bronnelys;Notas
is|Tengt efni;Heimildir;Tilvísanir;Tenglar
cy|Gweler hefyd;Cyfeiriadau;Dolenni allanol;Llyfryddiaeth;Ffynonellau
ga|Féach freisin;Tagairtí;Naisc sheachtracha
br|Gwelet ivez;Notennoù;Daveennoù;Liammoù diavaez;Levrlennadur
oc|Vejatz tanben;Referéncias;Nòtas;Ligams extèrnes;Bibliografia
ast|Ver tamién;Referencies;Enllaces esternos;Bibliografía;Notes
lb|Kuckt och;Literatur;Um Spaweck;Referenzen;Quellen
fy|Sjoch ek;Boarnen, noaten en referinsjes;Keppelings om utens
sw|Tazama pia;Marejeo;Tanbihi;Viungo vya nje;Viungo vya Nje
tl|Tingnan din;Mga sanggunian;Mga kawing panlabas;Mga tala;Sanggunian
jv|Delengen uga;Referensi;Pranala jaba;Cathetan suku;Rujukan
km|ឯកសារយោង;សូមមើលផងដែរ;តំណភ្ជាប់ខាងក្រៅ
lo|ອ້າງອີງ;ເບິ່ງຕື່ມ;ແຫຼ່ງຂໍ້ມູນອື່ນ
my|ကိုးကား;ပြင်ပလင့်ခ်များ;ပြင်ပလင့်များ
am|ማጣቀሻ;ዋቢ ምንጮች;የውጭ መያያዣዎች
ckb|ئەمانەش ببینە;سەرچاوەکان;بەستەرە دەرەکییەکان
ku|Binêre;Çavkanî;Girêdanên derve;Jêder
ps|دا هم وگورئ;سرچينې;باندنۍ تړنې
ta|மேற்கோள்கள்;இவற்றையும் பார்க்க;வெளி இணைப்புகள்;இவற்றையும் பார்க்கவும்;உசாத்துணை;குறிப்புகள்;மேலும் பார்க்க
"""

SECTIONS = {
    code: frozenset(heading.casefold() for heading in headings.split(";"))
    for code, headings in (line.split("|") for line in _TABLE.strip().splitlines())
}
"""Headings, casefolded, by the code of a wiki's language."""
